"""Clips that were made elsewhere, as rows of the prompts table: the corpus takes them as they are.

    take_in_clips(folder, table, home, form, ...) -> ClipIntake
        home/clips/<id>.tar, rows of home/prompts.parquet in new shards, home/clips-quarantine.parquet
    brought(rows, meshes) -> the samples of the rows that are such clips, and the rows that have to be generated

A clip is a prompt whose file is a tar of one sample. So it is observed, licensed, versioned and withdrawn as any other
source, and its shard of the corpus is made again without being generated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages.corpus.clip_files import (
    CAMERAS,
    GIVEN,
    ORBIT,
    TRANSFORMS,
    VIDEOS,
    ClipError,
    ClipFormat,
    below,
    read_clip_file,
)
from stages.documents import read_json
from stages.errors import InputError
from stages.hashing import file_md5
from stages.objects.collections.item import plain_id, readable
from stages.objects.sources import assign_shards
from stages.objects.splits import UNKNOWN
from stages.prompts.screen import DUPLICATE, ScreenConfig, screened
from stages.prompts.table import SCHEMA, SOURCE, read_prompts
from stages.quality.clips import SYNTHETIC
from stages.sandbox import Limits, Sandbox, SandboxError
from stages.seeds import sample_seed
from stages.shards import Sample, read_shard, write_shard
from stages.tables import foreign_table, write_table
from stages.text import spelled_out, unfit

CLIPS = "clips"
QUARANTINE: dict[str, type[pl.DataType]] = dict.fromkeys(
    ("clip", "text", "licence", "creator", "reason", "error"), pl.String
)
UNLISTED, UNLICENSED, TWICE = "not in the table", "no licence", "listed twice"


@dataclass(frozen=True)
class ClipIntake:
    """What an import made of a folder; `quarantined` counts by reason, `shards` are those that are new."""

    clips: int
    taken: int
    shards: tuple[str, ...]
    quarantined: dict[str, int]


def take_in_clips(
    folder: Path,
    table: Path,
    home: Path,
    form: ClipFormat,
    *,
    licence: str | None,
    creator: str | None,
    unsafe: Sequence[str],
    screen: ScreenConfig,
    shard_size: int,
    limits: Limits | None = None,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> ClipIntake:
    """Take the clips of `folder` that `table` describes into the source folder `home`, which may hold some already.

    The table (CSV, Parquet or JSON) has the columns `clip` (a file or folder below `folder`) and `text`, and any of
    licence, creator, camera (see `CAMERAS`; default an orbit), elevation (degrees), frames (how many there should be).
    Raises InputError when it cannot be read or is empty.
    """
    rows = _listed(read_clip_table(table), folder, licence, creator)
    quarantine: list[dict[str, Any]] = [
        {"clip": name, "reason": UNLISTED} for name in _found(folder) if name not in set(rows["clip"])
    ]
    kept, refused = screened(rows, screen, unsafe)
    spared = refused.filter(pl.col("reason") == DUPLICATE)  # two clips may show the same
    kept = pl.concat([kept.drop("key"), spared.select(kept.drop("key").columns)]).sort("row")
    for row in refused.filter(pl.col("reason") != DUPLICATE).to_dicts():
        quarantine.append({**row, "reason": f"text: {row['reason']}", "error": row["detail"]})
    before = read_prompts(home / "prompts.parquet")
    (home / CLIPS).mkdir(parents=True, exist_ok=True)
    taken: list[dict[str, Any]] = []
    seen: set[str] = set()
    with Sandbox(read_clip_file, limits) as reader:
        for number, row in enumerate(kept.to_dicts()):
            try:
                if row["clip"] in seen:
                    raise ClipError(f"{TWICE}: {row['clip']}")
                seen.add(row["clip"])
                taken.append(_taken(row, folder, home, form, reader))
            except (ClipError, SandboxError) as error:
                reason, _, detail = str(error).partition(": ")
                quarantine.append({**row, "reason": reason, "error": spelled_out(detail)})
            report({"step": number + 1, "of": len(kept), "message": row["clip"]})
    after = _grown(before, taken, shard_size)
    refused_before = home / f"{CLIPS}-quarantine.parquet"
    broken = pl.DataFrame(quarantine, schema=QUARANTINE)
    if refused_before.is_file():
        handled = {*rows["clip"], *broken["clip"]}
        broken = pl.concat([pl.read_parquet(refused_before).filter(~pl.col("clip").is_in(handled)), broken])
    broken = broken.sort("clip", nulls_last=True)
    write_table(broken, refused_before)
    if len(after) > len(before) or taken:
        write_table(after, home / "prompts.parquet")
    counts = broken.group_by("reason").len().sort("len", "reason", descending=[True, False])
    new = set(after["shard"]) - set(before["shard"])
    clips = after.filter(pl.col("file").str.starts_with(f"{CLIPS}/"))
    return ClipIntake(len(clips), len(taken), tuple(sorted(new)), dict(counts.iter_rows()))


def read_clip_table(path: Path) -> pl.DataFrame:
    """Raises InputError, naming the file, when it cannot be read, lacks `clip` or `text`, or holds no rows."""
    try:
        if path.suffix.lower() == ".json":
            rows = read_json(path.read_text(encoding="utf-8"))
            plain = [{k: v if isinstance(v, str | None) else json.dumps(v) for k, v in row.items()} for row in rows]
            table = pl.DataFrame(plain, infer_schema_length=None)
        else:
            table = foreign_table(path)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read as a table of clips: {' '.join(str(error).split())[:200]}") from None
    if not table.columns:
        raise InputError(f"{path} describes no clip; put one in a row")
    if lacking := [name for name in ("clip", "text") if name not in table.columns]:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.columns)}")
    if table.is_empty():
        raise InputError(f"{path} describes no clip; put one in a row")
    return table


def brought(rows: Sequence[dict[str, Any]], home: Path) -> tuple[list[Sample], list[dict[str, Any]]]:
    """The samples of the rows that are clips from elsewhere (their `file` is below `home`), and the other rows."""
    theirs = [row for row in rows if is_clip(row)]
    samples = [next(read_shard(home / row["file"])) for row in theirs]
    return samples, [row for row in rows if not is_clip(row)]


def is_clip(row: dict[str, Any]) -> bool:
    return bool(row["file"]) and row["file"].endswith(".tar")


def _listed(table: pl.DataFrame, folder: Path, licence: str | None, creator: str | None) -> pl.DataFrame:
    def column(name: str, default: str | None) -> pl.Expr:
        value = pl.col(name).cast(pl.String) if name in table.columns else pl.lit(None, pl.String)
        return pl.when(value.str.strip_chars() != "").then(value).otherwise(pl.lit(default, pl.String)).alias(name)

    return table.select(
        pl.int_range(pl.len()).alias("row"),
        column("clip", "").str.strip_chars_end("/"),
        column("text", ""),
        column("licence", licence),
        column("creator", creator or UNKNOWN),
        column("camera", None),
        column("elevation", None),
        column("frames", None),
    )


def _found(folder: Path) -> list[str]:
    """What looks like a clip, directly below the folder."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of clips")
    entries = sorted(folder.iterdir())
    return [e.name for e in entries if e.suffix.lower() in VIDEOS or (e.is_dir() and not e.name.startswith("."))]


def _taken(
    row: dict[str, Any], folder: Path, home: Path, form: ClipFormat, reader: Sandbox[..., Any]
) -> dict[str, Any]:
    """The row of the prompts table, whose clip lies in `home` afterwards. Raises ClipError."""
    if not row["licence"] or readable(row["licence"]) == UNKNOWN:
        raise ClipError(f"{UNLICENSED}: name one in the table or with --licence")
    for name in ("creator", "licence"):
        if why := unfit(row[name]):
            raise ClipError(f"{why} in its {name}")
    path = below(folder, row["clip"])
    elevation, expected = _number(row, "elevation"), _number(row, "frames")
    if elevation is not None and abs(elevation) > 89:
        raise ClipError(f"unknown camera: elevation {elevation:g}; straight above and below, up has no direction")
    camera = row["camera"] or (GIVEN if (path / TRANSFORMS).is_file() else ORBIT)
    views, cameras = reader(path, camera, None if expected is None else int(expected), elevation, form)
    id_ = plain_id(Path(row["clip"]).stem, f"{row['clip']}/{row['text']}")
    meta = {
        "cameras": cameras,
        "elevation": elevation,
        "radius": form.radius,
        "caption": row["text"],
        "licence": readable(row["licence"]),
        "creator": row["creator"],
        "object": None,
        "first_frame": f"imported: {row['clip']}",
        "camera": camera if camera in CAMERAS else "given",
        "split": SYNTHETIC,
        "parents": [],
    }
    target = home / CLIPS / f"{id_}.tar"
    unfinished = target.with_suffix(".unfinished")
    write_shard(unfinished, [Sample(id_, views, meta)])
    unfinished.replace(target)
    facts = {"licence": meta["licence"], "creator": row["creator"], SOURCE: meta["first_frame"]}
    file = {"file": f"{CLIPS}/{id_}.tar", "md5": file_md5(target)}
    return {"id": id_, "text": row["text"], "object": None, "seed": sample_seed(0, id_) % 2**32, **file, **facts}


def _number(row: dict[str, Any], name: str) -> float | None:
    try:
        number = None if row[name] is None else float(row[name])
        if number is not None and not abs(number) < 1e9:  # nor is it NaN
            raise ValueError
        return number
    except ValueError:
        raise ClipError(f"unknown {name}: {row[name][:40]!r} is no number") from None


def _grown(before: pl.DataFrame, taken: list[dict[str, Any]], shard_size: int) -> pl.DataFrame:
    """The rows of before, those that were taken in again in their shards, and new ones in new shards."""
    known = dict(before.select("id", "shard").iter_rows())
    shards = assign_shards([row["id"] for row in taken], shard_size, known=known, prefix="p")
    again = {row["id"] for row in taken}
    rows = pl.DataFrame([row | {"shard": shards[row["id"]]} for row in taken], schema=SCHEMA)
    return pl.concat([before.filter(~pl.col("id").is_in(again)), rows]).sort("shard", "id")
