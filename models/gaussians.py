"""3D Gaussians: one object as a cloud of soft, coloured ellipsoids (3D Gaussian splatting, arXiv 2308.04079)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """The Gaussians of one object, in the world's units and axes (z up).

    `scales` are standard deviations along each Gaussian's own axes (above 0), `rotations` quaternions (w, x, y, z) that
    turn those axes into the world's (unit length; others are normalised where they are used). `opacities` and `colours`
    are in 0..1; a colour is the same from all sides.
    """

    positions: Float[Tensor, "n 3"]
    scales: Float[Tensor, "n 3"]
    rotations: Float[Tensor, "n 4"]
    opacities: Float[Tensor, " n"]
    colours: Float[Tensor, "n 3"]

    def __post_init__(self) -> None:
        n = len(self.positions)
        wanted = {"positions": (n, 3), "scales": (n, 3), "rotations": (n, 4), "opacities": (n,), "colours": (n, 3)}
        for name, shape in wanted.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                raise ValueError(f"{name} of {n} Gaussians should have shape {shape}, not {found}")

    def __len__(self) -> int:
        return len(self.positions)

    def kept(self, which: Bool[Tensor, " n"] | Int[Tensor, " m"]) -> Gaussians:
        """The Gaussians that a mask or a list of indices names."""
        return Gaussians(*(getattr(self, field.name)[which] for field in fields(self)))

    def to(self, *args: object, **kwargs: object) -> Gaussians:
        """Like `Tensor.to`, on all fields."""
        return Gaussians(*(getattr(self, field.name).to(*args, **kwargs) for field in fields(self)))

    def detach(self) -> Gaussians:
        return Gaussians(*(getattr(self, field.name).detach() for field in fields(self)))

    def axes(self) -> Float[Tensor, "n 3 3"]:
        """The own axes as columns in the world, each as long as its standard deviation."""
        return rotation_matrices(self.rotations) * self.scales[:, None, :]

    def covariances(self) -> Float[Tensor, "n 3 3"]:
        axes = self.axes()
        return axes @ axes.transpose(-1, -2)


def rotation_matrices(quaternions: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Of quaternions (w, x, y, z), which are normalised; zeros do not turn."""
    w, x, y, z = F.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
