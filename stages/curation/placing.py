"""Where the views of a pool were asked for."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.camera import Camera
from stages.candidates.pool import Pool

SAME = 1.0
"""Degrees below which two cameras are one."""


def angles_between(cameras: Camera) -> Float[Tensor, "n n"]:
    """Degrees between the directions in which each two cameras lie, seen from the object."""
    towards = torch.nn.functional.normalize(cameras.pose[:, :3, 3], dim=-1)
    return torch.rad2deg((towards @ towards.T).clamp(-1, 1).acos())


def directions(cameras: Camera) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Azimuth in 0..360 and elevation in -90..90, degrees."""
    x, y, z = cameras.pose[:, :3, 3].unbind(-1)
    return torch.rad2deg(torch.atan2(y, x)) % 360, torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))


def shared(pool: Pool) -> Bool[Tensor, " n"]:
    """The views at the front's camera: the front itself, and the same view by the other model."""
    away = (pool.cameras.pose[:, :3, 3] - pool.cameras.pose[pool.front, :3, 3]).norm(dim=-1)
    return away <= torch.deg2rad(torch.tensor(SAME)) * pool.cameras.pose[pool.front, :3, 3].norm()
