"""Batches of several input views, and of the views and rays that supervise them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from stages.flexrm.config import ViewDrawConfig
from stages.reconstruction.config import DrawConfig
from stages.reconstruction.data import Orbits, RayBatch, chosen_pixels, mirrored_where


@dataclass(frozen=True)
class ViewBatch:
    """Input views and the rays that supervise them (`rays`, whose `image` and `source` have an axis of views), and the
    whole supervised views; all in a world where the first input view stands at azimuth 0."""

    rays: RayBatch
    cameras: Camera
    rgb: Float[Tensor, "b k 3 s s"]
    alpha: Float[Tensor, "b k s s"]

    def to(self, *args: Any, **kwargs: Any) -> ViewBatch:
        """On another device: what Lightning asks of a batch."""
        parts = {name: getattr(self, name).to(*args, **kwargs) for name in ("rays", "cameras", "rgb", "alpha")}
        return replace(self, **parts)


def draw_count(most: int, generator: torch.Generator) -> int:
    """1 to `most` input views, evenly in their logarithm: what an object gains from a further view falls that way."""
    return min(most, int(math.exp(float(torch.rand((), generator=generator)) * math.log(most + 1))))


def draw_views(orbits: Orbits, batch: int, config: ViewDrawConfig, generator: torch.Generator) -> ViewBatch:
    """`batch` objects, each seen in as many random views, and supervised by other ones (where there are enough)."""
    count, views = orbits.rgb.shape[:2]
    inputs = min(draw_count(config.most, generator), views)
    rows = torch.randint(count, (batch,), generator=generator)
    order = torch.rand(batch, views, generator=generator).argsort(1)
    chosen = torch.cat((order[:, :inputs], order[:, -config.side_views :]), 1)
    rgb, alpha, cameras = orbits.views(rows[:, None].expand_as(chosen), chosen)
    if config.permute_colours:
        channels = torch.rand(batch, 3, generator=generator).argsort(1)
        rgb = torch.gather(rgb, 2, channels[:, None, :, None, None].expand_as(rgb))
    if config.mirror:
        flip = torch.rand(batch, generator=generator) < 0.5
        rgb = torch.where(flip[:, None, None, None, None], rgb.flip(-1), rgb)
        alpha = torch.where(flip[:, None, None, None], alpha.flip(-1), alpha)
        cameras = mirrored_where(flip[:, None].expand_as(chosen), cameras)
    cameras = cameras.relative_to(cameras[:, :1])
    targets = cameras[:, inputs:]
    truth, covered = rgb[:, inputs:], alpha[:, inputs:]
    origins, directions = (part.flatten(1, 2) for part in targets.rays(rgb.shape[-1]))
    pixels = chosen_pixels(covered, DrawConfig(rays=config.rays, near_object=config.near_object), generator)  # pyright: ignore
    some = torch.arange(batch)[:, None]
    rays = RayBatch(
        rgb[:, :inputs],
        cameras[:, :inputs],
        origins[some, pixels],
        directions[some, pixels],
        truth.movedim(2, -1).flatten(1, 3)[some, pixels],
        covered.flatten(1)[some, pixels],
    )
    return ViewBatch(rays, targets, truth, covered)


def spread_order(cameras: Camera, first: int, allowed: list[int]) -> list[int]:
    """`allowed` views [v], each as far as can be from those before it, beginning with `first`."""
    place = torch.nn.functional.normalize(cameras.pose[:, :3, 3].double(), dim=-1)
    order, left = [first], [view for view in allowed if view != first]
    while left:
        nearest = (place[left] @ place[order].T).amax(1)  # cosine of the angle to the nearest that is taken
        order.append(left.pop(int(nearest.argmin())))
    return order
