"""Clips out of orbits: every start and every stride of a ring of views is an orbit again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from stages.shards import read_shard


def ring_clips(
    rings: UInt8[Tensor, "o v h w 4"], orbit: Int64[Tensor, " n"], start: Int64[Tensor, " n"], frames: int
) -> Float[Tensor, "n f 3 h w"]:
    """`frames` evenly spaced views of each chosen ring, from each chosen start, RGB in 0..1 on white.

    Raises ValueError when the ring's views are no multiple of `frames`.
    """
    views = rings.shape[1]
    if views % frames:
        raise ValueError(f"a ring of {views} views cannot be cut into clips of {frames} frames; choose a divisor")
    view = (start[:, None] + views // frames * torch.arange(frames)) % views
    rgba = rings[orbit[:, None], view].float() / 255
    alpha = rgba[..., 3:]
    return (rgba[..., :3] * alpha + 1 - alpha).movedim(-1, -3).contiguous()


def draw_clips(
    rings: UInt8[Tensor, "o v h w 4"], count: int, frames: int, generator: torch.Generator, *, mirror: bool = False
) -> Float[Tensor, "n f 3 h w"]:
    """Random rings at random starts; with `mirror`, half of them left to right.

    A mirrored object is circled the same way round when the mirrored frames are played backwards.
    """
    orbit = torch.randint(len(rings), (count,), generator=generator)
    start = torch.randint(rings.shape[1], (count,), generator=generator)
    clips = ring_clips(rings, orbit, start, frames)
    if mirror:
        flip = torch.rand(count, generator=generator) < 0.5
        backwards = -torch.arange(frames) % frames
        clips = torch.where(flip[:, None, None, None, None], clips[:, backwards].flip(-1), clips)
    return clips


def told_clips(ids: Sequence[str], views: int, count: int, generator: torch.Generator) -> str:
    """Which clips `draw_clips` makes of rings of these ids from an equal generator."""
    orbit = torch.randint(len(ids), (count,), generator=generator).tolist()
    start = torch.randint(views, (count,), generator=generator).tolist()
    return ", ".join(f"{ids[o]} from view {s}" for o, s in zip(orbit, start, strict=True))


def read_rings(manifest: pl.DataFrame, shards: Path, split: str) -> UInt8[Tensor, "o v h w 4"]:
    """The rendered orbits of one split, see `read_orbits`."""
    return read_orbits(manifest, shards, split)[1]


def read_orbits(manifest: pl.DataFrame, shards: Path, split: str) -> tuple[list[str], UInt8[Tensor, "o v h w 4"]]:
    """Ids and views of the rendered orbits of one split. `manifest` rows name the sample ids; `shards` holds
    `<shard>/views.tar`.

    Raises ValueError when the split has no rows.
    """
    rows = manifest.filter((pl.col("split") == split) & pl.col("reason").is_null())
    if rows.is_empty():
        raise ValueError(f"the manifest has no rendered object in split {split!r}: {len(manifest)} rows")
    wanted = set(rows["id"])
    paths = [shards / shard / "views.tar" for shard in sorted(set(rows["shard"]))]
    found = [(sample.id, sample.views) for path in paths for sample in read_shard(path) if sample.id in wanted]
    return [id_ for id_, _ in found], torch.from_numpy(np.stack([views for _, views in found]))
