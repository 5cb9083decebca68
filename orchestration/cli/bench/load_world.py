"""A corpus of thousands of shards with one tiny clip each, and stages that make such shards."""

from __future__ import annotations

import hashlib
import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from orchestration import pipeline
from orchestration.cli.bench.lineage_world import made, observed, prepare, write_sources
from orchestration.lineage.ledger import Ledger
from stages.objects.sources import PROMPTS
from stages.quality.manifest import MASK_STATISTICS, ORIGIN

CORPUS, LABELS, MANIFEST = "synthetic_corpus", "quality_labels", "corpus_manifest"
REMOTE = "far"
OBJECTS = 10


def build(root: Path, shards: int) -> None:
    """A project of `shards` prompts, one a shard, with all that they are made of and nothing that is made of them."""
    prepare(root)
    with (root / ".dvc" / "config").open("a") as config:
        config.write(f"['remote \"{REMOTE}\"']\n    url = {root / REMOTE}\n")
    write_sources(OBJECTS, shards)
    here = pipeline.current()
    for source in here.sources:
        if source.table != PROMPTS:  # those are read: the run observes them itself
            Ledger().append(*observed(here, source.name))
    behind = {CORPUS, LABELS, MANIFEST}
    for step in here.steps:
        if step.name in behind or behind & {*step.reads, *step.files}:
            behind.add(step.name)
        elif step.job in ("chain", "base"):
            Ledger().append(*made(here, step))


def generate(work: Any) -> None:
    """In place of the stage of `synthetic_corpus`: the prompts' clips, a picture of four pixels a side each."""
    prompts = pl.read_parquet(work.inputs["prompts"] / "prompts.parquet")
    with tarfile.open(work.output / "clips.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for id_ in prompts["id"]:
            member = tarfile.TarInfo(f"{id_}.00.png")
            member.size = len(_picture())
            tar.addfile(member, io.BytesIO(_picture()))
    pl.DataFrame(schema={"id": pl.String, "reason": pl.String}).write_parquet(work.output / "quarantine.parquet")
    work.report({"step": len(prompts), "of": len(prompts)})


def label(work: Any) -> None:
    """In place of the stage of `quality_labels`: a good clip that nobody looked at."""
    words = dict.fromkeys((*ORIGIN, "parents", "masks_md5"), "x") | {"id": work.shard, "fault": None}
    md5 = hashlib.md5((work.inputs[CORPUS] / "clips.tar").read_bytes()).hexdigest()
    numbers = ("score", "threshold", "elevation", "elevation_spread", "motion_mean", *MASK_STATISTICS)
    row = words | {"clips_md5": md5} | dict.fromkeys(numbers, 0.5) | {"border_most": 0.0}
    schema = {name: pl.Float64 if name in numbers else pl.String for name in row}
    pl.DataFrame([row], schema=schema).write_parquet(work.output / "labels.parquet")
    work.report({"step": 1, "of": 1})


@cache
def _picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4)).save(file, "PNG")
    return file.getvalue()
