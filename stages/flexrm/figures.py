"""How a FlexRM does on held-out objects as it is given more of their views, and on pools whose views are spoiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.flexrm import FlexRM
from stages.evaluation.held_out import Predictions, figures
from stages.flexrm.config import ViewsProtocolConfig
from stages.flexrm.data import spread_order
from stages.flexrm.train import splatted
from stages.reconstruction.config import ProtocolConfig
from stages.reconstruction.data import Orbits

MEASURED = ("psnr", "foreground_psnr", "iou")


def parted(orbits: Orbits, protocol: ViewsProtocolConfig) -> tuple[list[int], list[int]]:
    """The input views in the order in which they are given, and the views that are compared; rings are alike.

    Views at even steps of a ring may be inputs, some of those at odd steps are truth: none is both.
    """
    cameras = orbits.cameras[0]
    position = cameras.pose[:, :3, 3].double()
    azimuth = torch.rad2deg(torch.atan2(position[:, 1], position[:, 0]))
    elevation = elevations_of(cameras)
    steps = int((elevation - elevation[0]).abs().lt(1e-3).sum())  # views of one ring
    even = [view for view in range(len(position)) if view % steps % 2 == 0]
    odd = [view for view in range(len(position)) if view % steps % 2]
    away = ((azimuth - protocol.azimuth + 180) % 360 - 180).abs() + (elevation - protocol.elevation).abs()
    first = min(even, key=lambda view: float(away[view]))
    return spread_order(cameras, first, even), odd[:: protocol.every]


def elevations_of(cameras: Camera) -> Float[Tensor, " v"]:
    """Degrees above the horizon of cameras [v] that look at the origin."""
    position = cameras.pose[:, :3, 3].double()
    return torch.rad2deg(torch.asin(position[:, 2] / position.norm(dim=-1)))


@torch.no_grad()
def seen_from(
    model: FlexRM, images: Float[Tensor, "v 3 s s"], cameras: Camera, targets: Camera
) -> tuple[Float[Tensor, "k 3 s s"], Float[Tensor, "k s s"]]:
    """What `targets` [k] see, in colour and coverage, of the splats of the object that `cameras` [v] took the `images`
    of."""
    first, device = cameras[:1], next(model.parameters()).device
    own, asked = (some.relative_to(first).to(device)[None] for some in (cameras, targets))
    seen = splatted(model, model.triplane(images[None].to(device), own), asked, images.shape[-1])
    return seen.rgb[0].clamp(0, 1).cpu(), seen.weight[0, :, 0].clamp(0, 1).cpu()


def by_views(
    model: FlexRM,
    orbits: Orbits,
    protocol: ViewsProtocolConfig,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> pl.DataFrame:
    """A row an object and number of `views`: id, object, psnr, foreground_psnr (dB), iou; see
    `stages.evaluation.held_out.figures`. `report` hears how many numbers are done."""
    inputs, targets = parted(orbits, protocol)
    tables = []
    for count in protocol.counts:
        chosen = inputs[:count]
        made = [
            seen_from(model, orbits.rgb[row, chosen].float() / 255, cameras[chosen], cameras[targets])
            for row in range(len(orbits.ids))
            for cameras in (orbits.cameras[row],)
        ]
        tables.append(compared(orbits, inputs[0], targets, made).select(pl.lit(count).alias("views"), pl.all()))
        report({"step": len(tables), "of": len(protocol.counts), "doing": "measuring by views"})
    return pl.concat(tables)


def compared(
    orbits: Orbits, first: int, targets: list[int], made: list[tuple[Float[Tensor, "k 3 s s"], Float[Tensor, "k s s"]]]
) -> pl.DataFrame:
    """id, object and figures of what was `made` of the `targets` of each object."""
    views = [first, *targets]
    some = replace(orbits, rgb=orbits.rgb[:, views], alpha=orbits.alpha[:, views], cameras=orbits.cameras[:, views])
    blank = torch.zeros_like(made[0][0][:1])
    rgb = torch.stack([torch.cat((blank, part)) for part, _ in made])
    alpha = torch.stack([torch.cat((blank[:, 0], part)) for _, part in made])
    place = some.cameras.pose[0, 0, :2, 3]
    azimuth = float(torch.rad2deg(torch.atan2(place[1], place[0])))  # of the input, which `figures` leaves out
    table = figures(Predictions(rgb, alpha), some, ProtocolConfig(input_azimuth=azimuth, size=rgb.shape[-1]))
    return table.select("id", "object", *MEASURED)
