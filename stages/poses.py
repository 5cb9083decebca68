"""What poses and numbers of cameras that were made elsewhere are held against."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FARTHEST = 1e6
"""What numbers of a camera stay below: from the origin in world units, of its lens in widths of the picture."""


def off_orthonormal(turns: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n"]:
    """How far products of rows are from those of a rotation or a reflection; NaN where that is unknown."""
    return (turns @ turns.mT - torch.eye(3, dtype=turns.dtype)).abs().amax((-2, -1))
