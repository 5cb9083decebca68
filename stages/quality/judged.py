"""Clips with the verdicts of people: what the classifier learns from.

    add_judged(folder, clips, verdicts)  -> folder/{labels-<md5>.parquet, clips-<md5>.tar}
    read_labels(folder)                  -> every verdict ever given; `tar` names the shard that holds the clip
    settled(labels)                      -> one verdict a clip
    read_judged(folder)                  -> each settled verdict with its clip

The clips are copied in, so that verdicts outlive the corpus that they were given to. Files are immutable: further
verdicts are further files, a change of mind is a later row, and an undone verdict is a row that says so. What cannot be
used is told as a `Fault` and never ends the work on the rest.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages.objects.splits import TRAIN
from stages.quality.clips import SYNTHETIC, Broken, read_clips
from stages.shards import Sample, write_shard

GOOD, BAD, UNSURE, UNDONE = "good", "bad", "unsure", "undone"
LEARNED_FROM = (TRAIN, SYNTHETIC)
"""Splits of clips that may be judged: what shows validation or held-out objects must teach nothing."""
VERDICTS = (GOOD, BAD, UNSURE, UNDONE)
COLUMNS = ("clip", "tar", "verdict", "reason", "who", "date", "source", "object", "creator", "licence")
SCHEMA: dict[str, Any] = dict.fromkeys(COLUMNS, pl.String)


@dataclass(frozen=True)
class Fault:
    """A label, or a file of labels, that cannot be used as it stands, and why."""

    id: str
    reason: str


def add_judged(folder: Path, clips: Iterable[Sample], verdicts: pl.DataFrame, scratch: Path | None = None) -> Path:
    """Append verdicts (clip, verdict, reason, who, date, source) with copies of the clips they are about.

    Clips that the folder holds already need not be given and are not copied again. Names of files follow from their
    content, and both are written in `scratch` (a folder of the same file system, by default the one above) and moved
    into place whole, the table last: two people may write at once, and a kill leaves no half file. Returns the table.
    Raises ValueError for a verdict that is none of good, bad, unsure, undone, for a clip that is nowhere, for a verdict
    that the same person gave at the same time already, and for a clip of another split than LEARNED_FROM.
    """
    if wrong := sorted(set(verdicts["verdict"]) - set(VERDICTS)):
        raise ValueError(f"verdicts {wrong}: should be {GOOD}, {BAD}, {UNSURE} or {UNDONE}")
    samples = {sample.id: sample for sample in clips}
    labels = read_labels(folder) if any(folder.glob("labels*.parquet")) else pl.DataFrame(schema=SCHEMA)
    kept = {row["clip"]: row for row in labels.to_dicts()}
    judged = verdicts["clip"].unique().sort().to_list()
    if missing := [i for i in judged if i not in samples and i not in kept]:
        raise ValueError(f"{len(missing)} judged clips are not given, first {missing[0]!r}")
    given = ["clip", "who", "date"]
    if len(again := verdicts.join(labels, on=given, how="semi")):
        raise ValueError(f"{len(again)} verdicts are in {folder} already, first that on {again['clip'][0]!r}")
    new = {i: samples[i] for i in judged if i not in kept}
    if leaks := sorted(i for i, sample in new.items() if sample.meta["split"] not in LEARNED_FROM):
        raise ValueError(f"{len(leaks)} clips are of no split that is learned from, first {leaks[0]!r}; leave them out")

    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".labels-", dir=scratch or folder.parent))
    try:
        tar = ""
        if new:
            write_shard(aside / "clips.tar", new.values())
            tar = f"clips-{_md5((aside / 'clips.tar').read_bytes())}.tar"
        rows = []
        for row in verdicts.sort(given).to_dicts():
            known = kept.get(row["clip"]) or {"tar": tar, **new[row["clip"]].meta}
            rows.append(row | {key: known.get(key) for key in ("tar", "object", "creator", "licence")})
        buffer = io.BytesIO()
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(buffer)
        table = folder / f"labels-{_md5(buffer.getvalue())}.parquet"
        (aside / "labels.parquet").write_bytes(buffer.getvalue())
        if new:
            (aside / "clips.tar").replace(folder / tar)
        (aside / "labels.parquet").replace(table)
    finally:
        shutil.rmtree(aside)
    return table


def read_labels(folder: Path, faults: list[Fault] | None = None) -> pl.DataFrame:
    """Every verdict ever given, sorted; files that cannot be read are told in `faults`.

    Raises FileNotFoundError when the folder has no label file.
    """
    files = sorted(folder.glob("labels*.parquet"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no labels*.parquet; fetch the sample data or make labels first")
    tables = [pl.DataFrame(schema=SCHEMA)]
    for file in files:
        try:
            tables.append(pl.read_parquet(file, columns=list(COLUMNS)))
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            why = " ".join(str(error).split())[:120]
            _tell(faults, file.name, f"is no label file ({why}); write it again or remove it")
    return pl.concat(tables).sort("clip", "date", "who")


def settled(labels: pl.DataFrame, faults: list[Fault] | None = None) -> pl.DataFrame:
    """One row a clip: what its judges agree on, by the last verdict of each; `who` names them all.

    The majority of those who say good or bad counts; where these are as many as those, or one person said both at one
    time, the clip is unsure. Undone verdicts are left out. `faults` tells every clip with two verdicts.
    """
    rows: list[dict[str, Any]] = []
    for (clip,), part in labels.sort("clip", "date", "who").group_by("clip", maintain_order=True):
        last: dict[str, dict[str, Any]] = {}
        for row in part.to_dicts():
            earlier = last.get(row["who"])
            if earlier and UNDONE not in (earlier["verdict"], row["verdict"]):
                at_once = earlier["date"] == row["date"] and earlier["verdict"] != row["verdict"]
                words = f"{row['who']} said {earlier['verdict']}, then {row['verdict']}"
                _tell(faults, str(clip), f"{words}: counts as unsure" if at_once else f"{words}: the later counts")
                row = row | {"verdict": UNSURE} if at_once else row
            last[row["who"]] = row
        said = [row for row in last.values() if row["verdict"] != UNDONE]
        if not said:
            continue
        count = {verdict: sum(row["verdict"] == verdict for row in said) for verdict in (GOOD, BAD)}
        verdict = UNSURE if count[GOOD] == count[BAD] else max(count, key=lambda v: count[v])
        if len({row["verdict"] for row in said}) > 1:
            words = ", ".join(f"{row['who']} says {row['verdict']}" for row in said)
            _tell(faults, str(clip), f"{words}: counts as {verdict}")
        chosen = next((row for row in said if row["verdict"] == verdict), said[0])
        who = ", ".join(dict.fromkeys(row["who"] for row in said))
        rows.append(chosen | {"verdict": verdict, "who": who})
    return pl.DataFrame(rows, schema=SCHEMA)


def read_judged(folder: Path, faults: list[Fault] | None = None) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Each settled verdict with its clip, shard by shard; `faults` tells verdicts whose clip is gone or broken."""
    labels = settled(read_labels(folder, faults), faults)
    for tar in labels["tar"].unique().sort():
        verdicts = {row["clip"]: row for row in labels.filter(pl.col("tar") == tar).to_dicts()}
        try:
            for clip in read_clips(folder / tar):
                if clip.id not in verdicts:
                    continue
                row = verdicts.pop(clip.id)
                if isinstance(clip, Broken):
                    _tell(faults, clip.id, f"its clip in {tar} is broken: {clip.reason}")
                else:
                    yield row, clip
        except FileNotFoundError:
            _tell(faults, tar, f"is missing; {len(verdicts)} verdicts name it")
        except ValueError as error:
            _tell(faults, tar, str(error))
        for id_ in sorted(verdicts):
            _tell(faults, id_, f"its clip is not in {tar}: label it again or remove the label")


def _tell(faults: list[Fault] | None, id_: str, reason: str) -> None:
    if faults is not None:
        faults.append(Fault(id_, reason))


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()[:12]
