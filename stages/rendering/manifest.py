"""One row for every rendered orbit and every quarantined object: what trainings read, and what they depend on.

write_manifest(shards, output) -> output/manifest.parquet, output/summary.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from stages.hashing import file_md5
from stages.shards import read_meta

SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "object": pl.String,
    "variant": pl.Int64,
    "orbit": pl.Int64,
    "split": pl.String,
    "caption": pl.String,
    "licence": pl.String,
    "creator": pl.String,
    "elevation": pl.Float64,
    "radius": pl.Float64,
    "coverage": pl.Float64,
    "views": pl.Int64,
    "size": pl.Int64,
    "shard": pl.String,
    "md5": pl.String,
    "geometry": pl.String,
    "duplicate_of": pl.String,
    "reason": pl.String,
    "error": pl.String,
}
FROM_META = (
    "object", "variant", "orbit", "split", "caption", "licence", "creator", "elevation", "radius", "coverage", "size",
    "geometry",
)  # fmt: skip
ELEVATIONS, COVERAGES = np.arange(-90, 91, 5), np.linspace(0, 1, 21)
"""Edges of the bins of the summary's histograms: degrees, and the share of a view that the object covers."""


def write_manifest(shards: Path, output: Path, report: Callable[[dict[str, Any]], None] = lambda event: None) -> None:
    """List the shards in `shards` (`<shard>/views.tar`, `<shard>/quarantine.parquet`).

    `md5` is that of the shard's tar, so that the manifest's own hash covers every pixel; `reason` and `error` are null
    for what was rendered. `duplicate_of` names the first object of the same shape, see `geometry_hash`. `report` hears
    how many shards are read.
    """
    rows: list[dict[str, Any]] = []
    folders = sorted(path for path in shards.iterdir() if path.is_dir())
    for number, folder in enumerate(folders):
        where = {"shard": folder.name, "md5": file_md5(folder / "views.tar")}
        for id_, meta in read_meta(folder / "views.tar"):
            facts = {key: meta[key] for key in FROM_META}
            rows.append({"id": id_, "views": len(meta["cameras"]), **facts, **where})
        for broken in pl.read_parquet(folder / "quarantine.parquet").to_dicts():
            rows.append({"id": broken["id"], "object": broken["id"], **broken, **where})
        report({"step": number + 1, "of": len(folders), "doing": "reading shards"})
    table = _with_duplicates(pl.DataFrame(rows, schema=SCHEMA).sort("id"))
    table.write_parquet(output / "manifest.parquet")
    (output / "summary.json").write_text(json.dumps(summary(table), indent=2) + "\n")


def summary(manifest: pl.DataFrame) -> dict[str, Any]:
    """Counts of a manifest: objects by licence, split and reason; histograms over orbits as [from, to, orbits]."""
    rendered = manifest.filter(pl.col("reason").is_null())
    objects, broken = rendered.unique("object"), manifest.filter(pl.col("reason").is_not_null())
    return {
        "objects": len(objects),
        "quarantined": len(broken),
        "orbits": len(rendered),
        "views": int(rendered["views"].sum()),
        "duplicates": objects["duplicate_of"].count(),
        "licences": _counts(objects["licence"]),
        "splits": _counts(objects["split"]),
        "reasons": _counts(broken["reason"]),
        "elevations": _histogram(rendered["elevation"], ELEVATIONS),
        "coverage": _histogram(rendered["coverage"], COVERAGES),
    }


def _with_duplicates(table: pl.DataFrame) -> pl.DataFrame:
    first = pl.col("object").min().over("geometry")
    copy = pl.col("geometry").is_not_null() & (pl.col("object") != first)
    return table.with_columns(duplicate_of=pl.when(copy).then(first))


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.fill_null("unknown").alias("value").value_counts().sort("count", "value", descending=[True, False])
    return dict(counted.iter_rows())


def _histogram(values: pl.Series, edges: np.ndarray) -> list[tuple[float, float, int]]:
    """The bins that hold anything."""
    counts, _ = np.histogram(values.to_numpy(), edges)
    return [
        (round(float(low), 4), round(float(high), 4), int(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
