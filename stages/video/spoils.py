"""Ways in which a clip fails to orbit, made from clips that do: what a judge of orbits has to turn away."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ORBIT = "orbit"


def moved(
    clips: Float[Tensor, "n f 3 s s"],
    *,
    roll: Float[Tensor, "*n f"] | float = 0.0,
    scale: Float[Tensor, "*n f"] | float = 1.0,
    across: Float[Tensor, "*n f"] | float = 0.0,
    up: Float[Tensor, "*n f"] | float = 0.0,
) -> Float[Tensor, "n f 3 s s"]:
    """Frames turned in the image plane (radians), scaled about the centre and shifted (half image sizes) on white."""
    n, f = clips.shape[:2]
    values = (torch.as_tensor(value, dtype=clips.dtype).expand(n, f).flatten() for value in (roll, scale, across, up))
    angle, size, x, y = values
    cos, sin = angle.cos() / size, angle.sin() / size
    transform = torch.stack((torch.stack((cos, -sin, -x), 1), torch.stack((sin, cos, y), 1)), 1)
    dark = 1 - clips.flatten(0, 1)
    grid = F.affine_grid(transform, list(dark.shape), align_corners=False)
    return (1 - F.grid_sample(dark, grid, align_corners=False)).unflatten(0, (n, f))


def spoiled(orbits: Float[Tensor, "n f 3 s s"], generator: torch.Generator) -> Mapping[str, Float[Tensor, "n f 3 s s"]]:
    """The orbits themselves and, by name, what is none: each begins with the same frame."""
    n, f = orbits.shape[:2]
    place = torch.arange(f)
    turn = 2 * math.pi / f * place
    frozen = orbits[:, :1].expand_as(orbits)
    order = 1 + torch.stack([torch.randperm(f - 1, generator=generator) for _ in range(n)])
    order = torch.cat((torch.zeros(n, 1, dtype=torch.long), order), 1)
    return {
        ORBIT: orbits,
        "frozen": frozen,
        "pan": moved(frozen, across=0.6 * place / (f - 1)),
        "zoom": moved(frozen, scale=1 - 0.45 * place / (f - 1)),
        "roll": moved(frozen, roll=turn),
        "shuffled": orbits[torch.arange(n)[:, None], order],
        "reversed": orbits[:, -place % f],
        "half turn": orbits[:, torch.minimum(place, f - place)],
    }
