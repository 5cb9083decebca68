"""The settings of FlexRM: plain data without torch. Flex3D leaves most of these numbers untold; where it does, ours."""

from __future__ import annotations

from pydantic import Field

from models.config import LRMConfig

VIEWS = 32
"""Input views that a FlexRM takes at most (Flex3D)."""


class FlexRMConfig(LRMConfig):
    """An LRM of 1 to 32 input views whose planes also decode to Gaussians.

    `align`, `view_channels` and `view_depths` work on every input view, see `LRMConfig`.
    """

    modulate: bool = Field(
        True, description="cameras modulate every layer of the image encoder (Flex3D; OpenLRM's way)"
    )
    gaussians: int = Field(100, ge=4, description="grid points a side that a Gaussian starts from; 100 is Flex3D's 1 M")
    reach: float = Field(
        1.5, gt=0, description="largest offset of a Gaussian from its grid point, in steps of the grid"
    )
    spread: float = Field(
        0.4,
        gt=0,
        description="standard deviation of a Gaussian at the start, in steps of the grid; at .4 = (2 pi) ** -.5 a grid "
        "of them hides about what the volume does",
    )
    spreads: float = Field(4.0, gt=1, description="an axis grows or shrinks at most by this factor")
