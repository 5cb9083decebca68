"""Collections taken into a source folder of the pipeline: `meshes/`, `objects.parquet`, `quarantine.parquet`.

What was taken in before is not converted again, and ids keep their shards; so a folder grows by further imports, and
one that was killed goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages.objects.collections.item import Item
from stages.objects.convert import Converted, convert
from stages.objects.sources import COLUMNS, OBJECTS, describe_objects
from stages.rendering.config import RenderingConfig
from stages.rendering.loader import sandboxed
from stages.rendering.mesh import MeshError
from stages.rendering.preflight import content_md5
from stages.sandbox import Limits, Sandbox
from stages.tables import write_table
from stages.text import spelled_out

NOTES = ".intake.jsonl"
QUARANTINE = {
    "id": pl.String,
    "file": pl.String,
    "licence": pl.String,
    "creator": pl.String,
    "reason": pl.String,
    "error": pl.String,
}


@dataclass(frozen=True)
class Intake:
    """What an import made of a collection; `quarantined` counts by reason, near-duplicates included."""

    objects: int
    taken: int
    quarantined: dict[str, int]


def take_in(
    items: Iterable[Item],
    folder: Path,
    *,
    shard_size: int = 100,
    limits: Limits | None = None,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Intake:
    """Convert the items (see `screened`) into `folder`; existing rows of other objects stay as they are.

    Of objects of one shape, see `geometry_hash`, the one that was there first is kept, or the first of `items`.
    """
    (folder / "meshes").mkdir(parents=True, exist_ok=True)
    before = _table(folder / "objects.parquet", dict.fromkeys(COLUMNS[OBJECTS], pl.String) | {"faces": pl.Int64})
    notes = _notes(folder / NOTES)
    shapes = {notes[id_]["geometry"]: id_ for id_ in before["id"] if "geometry" in notes.get(id_, {})}
    records: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with Sandbox(convert, limits) as converter, Sandbox(content_md5, limits) as md5_of:
        for number, item in enumerate(items):
            try:
                note = _taken(item, folder, notes, converter, md5_of)
                first = shapes.setdefault(note["geometry"], item.id)
                if first != item.id:
                    (folder / "meshes" / f"{item.id}.glb").unlink(missing_ok=True)
                    raise MeshError(f"near-duplicate: of {first}")
                records.append({**_facts(item), "file": f"{item.id}.glb", "caption": item.caption, **note})
            except MeshError as error:
                reason, _, detail = str(error).partition(": ")
                refused.append({**_facts(item), "file": item.file, "reason": reason, "error": spelled_out(detail)})
            report({"step": number + 1, "message": item.file})
    handled = {row["id"] for row in (*records, *refused)}
    rows = [before.filter(~pl.col("id").is_in(handled)).select(COLUMNS[OBJECTS])]
    if records:
        known = dict(before.select("id", "shard").iter_rows())
        rows.append(describe_objects(records, folder, shard_size=shard_size, known=known))
    table = pl.concat(rows, how="vertical_relaxed").sort("shard", maintain_order=True)
    earlier = _table(folder / "quarantine.parquet", QUARANTINE)
    broken = pl.DataFrame(refused, schema=QUARANTINE)
    broken = pl.concat([earlier.filter(~pl.col("id").is_in(handled)), broken]).sort("id")
    write_table(broken, folder / "quarantine.parquet")
    write_table(table, folder / "objects.parquet")
    counts = broken.group_by("reason").len().sort("len", "reason", descending=[True, False])
    return Intake(len(table), len(records), dict(counts.iter_rows()))


def _taken(
    item: Item,
    folder: Path,
    notes: dict[str, dict[str, Any]],
    converter: Sandbox[..., Converted],
    md5_of: Sandbox[[Path], str],
) -> dict[str, Any]:
    """Faces and geometry of the item, whose GLB lies in the folder afterwards. Raises MeshError."""
    if item.reason or item.path is None:
        raise MeshError(item.reason or "unreadable: there is no file")
    key = sandboxed(md5_of, item.path)
    note = notes.get(item.id, {})
    target = folder / "meshes" / f"{item.id}.glb"
    if note.get("key") == key and (target.is_file() or "reason" in note):
        if "reason" in note:
            raise MeshError(note["reason"])
        return {"faces": note["faces"], "geometry": note["geometry"]}
    unfinished = target.with_suffix(".unfinished")
    try:
        made = sandboxed(converter, item.path, unfinished, RenderingConfig.model_validate({}), item.rotation)
        unfinished.replace(target)
        note = {"id": item.id, "key": key, "faces": made.faces, "geometry": made.geometry}
    except MeshError as error:
        note = {"id": item.id, "key": key, "reason": str(error)}
        raise
    finally:
        unfinished.unlink(missing_ok=True)
        if note.get("key") == key:
            with (folder / NOTES).open("a") as file:
                file.write(f"{json.dumps(note)}\n")
    return {"faces": made.faces, "geometry": made.geometry}


def _facts(item: Item) -> dict[str, Any]:
    return {key: getattr(item, key) for key in ("id", "licence", "creator", "category", "source")}


def _notes(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have cut the last one
    return {row["id"]: row for row in rows}


def _table(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(path) if path.is_file() else pl.DataFrame(schema=schema)
