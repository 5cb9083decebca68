"""A user's project with the smallest source data."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.objects.sources import COLUMNS


def sources(project: Path) -> None:
    folder = project / "data" / "source"
    folder.mkdir(parents=True, exist_ok=True)
    row = dict.fromkeys(COLUMNS["objects"], "x") | {"shard": "000", "faces": 1, "split": "train"}
    pl.DataFrame([row]).write_parquet(folder / "objects.parquet")
    prompt = dict.fromkeys(COLUMNS["prompts"], "x") | {"shard": "p000", "seed": 1}
    pl.DataFrame([prompt]).write_parquet(folder / "prompts.parquet")
