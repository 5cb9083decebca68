"""Density fields with known answers, in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from models.triplane import Triplane


def field(density: Callable[[Tensor], Tensor], box: float = 0.9) -> tuple[Any, Triplane]:
    """A model of the density, in points [*n, 3]; and planes that it ignores. Colours change smoothly along all axes:
    red grows with z."""

    def query(_: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = (points / (2 * box) + 0.5).clamp(0, 1).unbind(-1)
        return density(points)[..., None], torch.stack((z, 0.2 + 0.6 * x, 0.9 - 0.8 * y), -1)

    def densities(planes: Triplane, side: int, _: float | None = None) -> Iterator[Tensor]:
        line = torch.linspace(-box, box, side)
        for x in line.split(5):
            yield query(planes, torch.stack(torch.meshgrid(x, line, line, indexing="ij"), -1))[0][..., 0]

    fake = SimpleNamespace(query=query, densities=densities, field=lambda planes: planes)
    return fake, Triplane(torch.zeros(1, 3, 1, 2, 2), box)


def balls(*parts: tuple[tuple[float, float, float], float], steepness: float = 10) -> Callable[[Tensor], Tensor]:
    """Balls (centre, radius): density falls off linearly, to 0 at the radius."""

    def density(points: Tensor) -> Tensor:
        each = [steepness * (radius - (points - torch.tensor(centre)).norm(dim=-1)) for centre, radius in parts]
        return torch.stack(each).amax(0).clamp(min=0)

    return density
