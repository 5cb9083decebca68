"""Imperfect-input simulation (Flex3D): clean Gaussians, disturbed within a few random cubes of the object.

The paper tells that the disturbance is of the Gaussians and local; what it does to them is ours: a cube's splats move,
change colour, and some vanish, as generated views have patches that are displaced, of another colour, or missing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.gaussians import Gaussians
from stages.flexrm.config import ImperfectConfig

SEEN = 0.1
"""Opacity of a Gaussian that a cube may stand around."""


def disturbed(
    gaussians: Gaussians,
    config: ImperfectConfig,
    box: float,
    cubes: Float[Tensor, "cubes 7"],
    each: Float[Tensor, "n 4"],
) -> Gaussians:
    """The Gaussians with disturbed cubes around some that are seen. `cubes` and `each` are normal numbers: of a cube
    where it stands, how it moves and how its colour changes; of a Gaussian how it moves and whether it stays."""
    positions, opacities, colours = gaussians.positions, gaussians.opacities, gaussians.colours
    solid = (opacities > SEEN).nonzero()[:, 0]
    if len(solid) == 0:
        return gaussians
    half, kept = config.side * box / 2, _evenly(each[:, 3]) >= config.lost
    for place, *cube in zip(_evenly(cubes[:, 0]), *(cubes[:, 1:].split(3, 1)), strict=True):
        shift, colour = cube
        middle = gaussians.positions[solid[int(place * (len(solid) - 1))]]
        inside = ((gaussians.positions - middle).abs() < half).all(-1)
        positions = torch.where(inside[:, None], positions + config.shift * (shift + each[:, :3]), positions)
        colours = torch.where(inside[:, None], (colours + config.colour * colour).clamp(0, 1), colours)
        opacities = torch.where(inside & ~kept, 0.0, opacities)
    return replace(gaussians, positions=positions, opacities=opacities, colours=colours)


def _evenly(normal: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Normal numbers as numbers spread evenly over 0..1."""
    return 0.5 * (1 + (normal / 2**0.5).erf())
