"""Pools made of true views: what the models would have to draw, known for every rendered object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch

from stages.candidates.pool import IMAGE, VIDEO, Pool
from stages.rendering.rings import RingsConfig
from stages.shards import Sample, composite, read_shard


def ring_pool(sample: Sample, rings: RingsConfig, elevation: float = 6.0) -> Pool:
    """One view of each ring at azimuth 0, then the whole ring nearest to `elevation` degrees, as candidates come."""
    nearest = min(range(len(rings.elevations)), key=lambda ring: abs(rings.elevations[ring] - elevation))
    first = [ring * rings.azimuths for ring in range(len(rings.elevations))]
    places = [*first, *range(nearest * rings.azimuths, (nearest + 1) * rings.azimuths)]
    views = torch.from_numpy(composite(sample.views[places]))
    meta = {key: value for key, value in sample.meta.items() if key != "cameras"}
    sources = (IMAGE,) * len(first) + (VIDEO,) * rings.azimuths
    return Pool(sample.id, views, sample.cameras[places], sources, tuple(range(len(first), len(places))), meta)


def ring_pools(
    manifest: pl.DataFrame, shards: Path, split: str, rings: RingsConfig, elevation: float = 6.0
) -> Iterator[Pool]:
    """Of the objects of a split; `shards` holds `<shard>/views.tar` as `ring_manifest` lists them."""
    rows = manifest.filter((pl.col("split") == split) & pl.col("reason").is_null())
    for (shard,), part in rows.sort("shard").group_by("shard", maintain_order=True):
        wanted = set(part["id"])
        for sample in read_shard(shards / str(shard) / "views.tar"):
            if sample.id in wanted:
                yield ring_pool(sample, rings, elevation)
