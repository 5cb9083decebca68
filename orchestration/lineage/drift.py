"""What changed between two versions of the corpus, read from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, Ledger, Row
from orchestration.resources import store

if TYPE_CHECKING:
    from orchestration.pipeline import Pipeline

MANIFEST = "corpus_manifest"


def drift_since_last(pipeline: Pipeline, asset: str = MANIFEST) -> pl.DataFrame | None:
    """The newest manifest beside the last one with other bytes; None when there is none, or the cache has lost it."""
    step = pipeline.find(asset)
    folder = f"{pipeline.preset.name}/{step.name}"
    rows = Ledger().query(lambda table: table.filter((pl.col("folder") == folder) & (pl.col("kind") == MADE)))
    now = Current(pipeline).row(asset)
    if now is None:
        return None
    before = [Row.of(row) for row in rows.filter(pl.col("version") != now.version).sort("ended").tail(1).to_dicts()]
    return drift_between(pipeline, before[0], now) if before else None


def drift_between(pipeline: Pipeline, before: Row, after: Row) -> pl.DataFrame | None:
    """None when the cache has lost one of the manifests, or one is from before it held what is compared."""
    from stages.quality.drift import MEASURED, drift

    then, now = (_manifest(row) for row in (before, after))
    needed = {"verdict", "object", *MEASURED}
    if then is None or now is None or not needed <= set(then.columns) & set(now.columns):
        return None
    objects = pipeline.whole_table("objects")
    return drift(then, now, dict(objects.select("id", "category").iter_rows()))


def _manifest(row: Row) -> pl.DataFrame | None:
    found = [store.object_path(file.md5) for file in row.files if file.path == "manifest.parquet"]
    return pl.read_parquet(found[0]) if found and found[0].is_file() else None
