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


def ring_views(views: int, start: Int64[Tensor, " n"], frames: int) -> Int64[Tensor, "n f"]:
    """The evenly spaced views of a ring that make a clip from each start.

    Raises ValueError when the ring's views are no multiple of `frames`.
    """
    if views % frames:
        raise ValueError(f"a ring of {views} views cannot be cut into clips of {frames} frames; choose a divisor")
    return (start[:, None] + views // frames * torch.arange(frames)) % views


def on_white(views: UInt8[Tensor, "*n h w 4"]) -> Float[Tensor, "*n 3 h w"]:
    rgba = views.float() / 255
    alpha = rgba[..., 3:]
    return (rgba[..., :3] * alpha + 1 - alpha).movedim(-1, -3).contiguous()


def places(
    rings: UInt8[Tensor, "o v h w 4"], count: int, frames: int, generator: torch.Generator
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, "n f"]]:
    """Random rings, and the views of a clip from a random start in each."""
    orbit = torch.randint(len(rings), (count,), generator=generator)
    start = torch.randint(rings.shape[1], (count,), generator=generator)
    return orbit, ring_views(rings.shape[1], start, frames)


def draw_clips(
    rings: UInt8[Tensor, "o v h w 4"], count: int, frames: int, generator: torch.Generator
) -> Float[Tensor, "n f 3 h w"]:
    """Random rings at random starts."""
    orbit, view = places(rings, count, frames, generator)
    return on_white(rings[orbit[:, None], view])


def draw_motions(
    rings: UInt8[Tensor, "o v h w 4"], count: int, frames: int, generator: torch.Generator, *, general: float
) -> Float[Tensor, "n f 3 h w"]:
    """The same, a share of them moving otherwise than once around: slower, or backwards; half of all mirrored.

    A mirrored object is circled the same way round when the mirrored frames of an orbit are played backwards.
    """
    orbit, view = places(rings, count, frames, generator)
    stride = rings.shape[1] // frames
    others = torch.tensor([step for step in range(-stride, stride) if step])
    step = others[torch.randint(len(others), (count,), generator=generator)]
    step = torch.where(torch.rand(count, generator=generator) < general, step, stride)
    view = (view[:, :1] + step[:, None] * torch.arange(frames)) % rings.shape[1]
    clips = on_white(rings[orbit[:, None], view])
    flip = torch.rand(count, generator=generator) < 0.5
    whole = step.abs() == stride
    backwards = -torch.arange(frames) % frames
    clips = torch.where((flip & whole)[:, None, None, None, None], clips[:, backwards].flip(-1), clips)
    return torch.where((flip & ~whole)[:, None, None, None, None], clips.flip(-1), clips)


def told_clips(
    ids: Sequence[str], rings: UInt8[Tensor, "o v h w 4"], count: int, generator: torch.Generator
) -> list[str]:
    """Which clips are drawn of rings of these ids from an equal generator, see `places`."""
    orbit, view = places(rings, count, 1, generator)
    return [f"{ids[o]} from view {v}" for o, v in zip(orbit.tolist(), view[:, 0].tolist(), strict=True)]


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
