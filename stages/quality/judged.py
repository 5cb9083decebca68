"""Clips with the verdicts of people: what the classifier learns from.

    add_judged(folder, clips, verdicts)  -> folder/{labels-NNN.parquet, clips-NNN.tar}
    read_labels(folder)                  -> one table; `tar` names each clip's shard
    read_judged(folder)                  -> each verdict with its clip

The clips are copied in, so that verdicts outlive the corpus that they were given to. Files are immutable: further
verdicts are further files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from stages.objects.splits import TRAIN
from stages.shards import Sample, read_shard, write_shard

GOOD, BAD, UNSURE = "good", "bad", "unsure"
COLUMNS = ("clip", "tar", "verdict", "reason", "who", "date", "source", "object", "creator", "licence")
SCHEMA: dict[str, Any] = dict.fromkeys(COLUMNS, pl.String)


def add_judged(folder: Path, clips: Iterable[Sample], verdicts: pl.DataFrame) -> Path:
    """Append verdicts (clip, verdict, reason, who, date, source) with copies of the clips they are about.

    Writes the next labels-NNN.parquet and clips-NNN.tar and returns the table's path; nothing is changed.
    Raises ValueError for a verdict that is none of good, bad, unsure, for a clip that is not given or judged
    already, and for a clip of another split than training.
    """
    if wrong := sorted(set(verdicts["verdict"]) - {GOOD, BAD, UNSURE}):
        raise ValueError(f"verdicts {wrong}: should be {GOOD}, {BAD} or {UNSURE}")
    samples = {sample.id: sample for sample in clips}
    known = set(read_labels(folder)["clip"])
    judged = verdicts["clip"].to_list()
    if missing := sorted(set(judged) - samples.keys()):
        raise ValueError(f"{len(missing)} judged clips are not given, first {missing[0]!r}")
    if again := sorted(known & set(judged)):
        raise ValueError(f"{len(again)} clips are in {folder} already, first {again[0]!r}; give new ones new ids")
    if leaks := sorted(i for i in judged if samples[i].meta["split"] != TRAIN):
        raise ValueError(f"{len(leaks)} clips are not of the {TRAIN!r} split, first {leaks[0]!r}; leave them out")
    number = len(list(folder.glob("labels*.parquet")))
    tar, table = folder / f"clips-{number:03d}.tar", folder / f"labels-{number:03d}.parquet"
    rows = [
        {**row, "tar": tar.name, **{key: samples[row["clip"]].meta[key] for key in ("object", "creator", "licence")}}
        for row in verdicts.to_dicts()
    ]
    write_shard(tar, (samples[i] for i in judged))
    pl.DataFrame(rows, schema=SCHEMA).sort("clip").write_parquet(table)
    return table


def read_labels(folder: Path) -> pl.DataFrame:
    """All verdicts of a folder. Raises FileNotFoundError when it has none."""
    tables = sorted(folder.glob("labels*.parquet"))
    if not tables:
        raise FileNotFoundError(f"{folder} holds no labels*.parquet; fetch the sample data or make labels first")
    return pl.concat([pl.read_parquet(table) for table in tables]).sort("clip")


def read_judged(folder: Path) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Each verdict with its clip, shard by shard."""
    labels = read_labels(folder)
    for tar in labels["tar"].unique().sort():
        verdicts = {row["clip"]: row for row in labels.filter(pl.col("tar") == tar).to_dicts()}
        for sample in read_shard(folder / tar):
            if sample.id in verdicts:
                yield verdicts[sample.id], sample
