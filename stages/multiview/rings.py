"""Rings of views in memory, and the pictures with their views that the multi-view model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from stages.errors import InputError
from stages.rendering.rings import RingsConfig
from stages.video.clips import on_white, read_orbits


@dataclass(frozen=True)
class Rings:
    """Every object at every elevation `e` and azimuth `a` of the rings; `captions` say what it is."""

    views: UInt8[Tensor, "o e a s s 4"]
    ids: tuple[str, ...]
    captions: tuple[str, ...]


class Shown(NamedTuple):
    """One picture of an object, which is also one of its views: that of elevation number `own`."""

    views: Float[Tensor, "n e 3 s s"]
    own: Int64[Tensor, " n"]
    captions: list[str]

    @property
    def pictures(self) -> Float[Tensor, "n 3 s s"]:
        return self.views[torch.arange(len(self.own)), self.own]


def read_rings(manifest: pl.DataFrame, shards: Path, split: str, config: RingsConfig) -> Rings:
    """The rings of one split. Raises ValueError when it has none, InputError for other rings than `config` says."""
    ids, views = read_orbits(manifest, shards, split)
    wanted = len(config.elevations) * config.azimuths
    if views.shape[1] != wanted:
        raise InputError(
            f"objects of {shards} have {views.shape[1]} views, {len(config.elevations)} rings of {config.azimuths} "
            f"have {wanted}; make ring_views with the same preset"
        )
    captions = dict(manifest.select("id", "caption").iter_rows())
    views = views.unflatten(1, (len(config.elevations), config.azimuths))
    return Rings(views, tuple(ids), tuple(captions[id_] or "" for id_ in ids))


def places(rings: Rings, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random objects, azimuths, and elevations of the picture."""
    objects, elevations, azimuths = rings.views.shape[:3]
    drawn = (torch.randint(top, (count,), generator=generator) for top in (objects, azimuths, elevations))
    return next(drawn), next(drawn), next(drawn)


def shown(rings: Rings, count: int, generator: torch.Generator) -> Shown:
    """Random objects at random azimuths, as they are."""
    row, azimuth, own = places(rings, count, generator)
    return Shown(on_white(rings.views[row, :, azimuth]), own, [rings.captions[index] for index in row.tolist()])


def draw(rings: Rings, count: int, generator: torch.Generator, *, permute_colours: bool, captioned: float) -> Shown:
    """The same, half of them mirrored and a share `captioned` with its caption; others are told nothing."""
    found = shown(rings, count, generator)
    views = found.views
    if permute_colours:
        channels = torch.rand(count, 3, generator=generator).argsort(1)
        views = torch.gather(views, 2, channels[:, None, :, None, None].expand_as(views))
    flip = torch.rand(count, generator=generator) < 0.5
    views = torch.where(flip[:, None, None, None, None], views.flip(-1), views)
    told = torch.rand(count, generator=generator) < captioned
    captions = [text if heard else "" for text, heard in zip(found.captions, told.tolist(), strict=True)]
    return Shown(views, found.own, captions)


def told_rings(rings: Rings, count: int, generator: torch.Generator) -> list[str]:
    """Which samples are drawn from an equal generator."""
    row, azimuth, own = (drawn.tolist() for drawn in places(rings, count, generator))
    return [f"{rings.ids[o]} at azimuth {a}, elevation {e}" for o, a, e in zip(row, azimuth, own, strict=True)]
