"""One row for every rendered orbit and every quarantined object: what trainings read, and what they depend on.

write_manifest(shards, output) -> output/manifest.parquet
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl

from stages.shards import read_shard

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
    "views": pl.Int64,
    "size": pl.Int64,
    "shard": pl.String,
    "md5": pl.String,
    "reason": pl.String,
}
FROM_META = ("object", "variant", "orbit", "split", "caption", "licence", "creator", "elevation", "radius")


def write_manifest(shards: Path, output: Path) -> None:
    """List the shards in `shards` (`<shard>/views.tar`, `<shard>/quarantine.parquet`).

    `md5` is that of the shard's tar, so that the manifest's own hash covers every pixel; `reason` is null for what
    was rendered.
    """
    rows: list[dict[str, Any]] = []
    for folder in sorted(path for path in shards.iterdir() if path.is_dir()):
        where = {"shard": folder.name, "md5": hashlib.md5((folder / "views.tar").read_bytes()).hexdigest()}
        for sample in read_shard(folder / "views.tar"):
            facts = {key: sample.meta[key] for key in FROM_META}
            rows.append({"id": sample.id, "views": len(sample.views), "size": sample.views.shape[1], **facts, **where})
        for broken in pl.read_parquet(folder / "quarantine.parquet").to_dicts():
            rows.append({"id": broken["id"], "object": broken["id"], "reason": broken["reason"], **where})
    pl.DataFrame(rows, schema=SCHEMA).sort("id").write_parquet(output / "manifest.parquet")
