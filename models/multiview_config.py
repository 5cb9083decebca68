"""The settings of the multi-view image model: plain data without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BackboneConfig(BaseModel):
    """Shapes of a text-to-image pipeline of the Stable Diffusion family. The defaults are those of its version 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...] = Field((320, 640, 1280, 1280), min_length=2, description="of the UNet's levels")
    layers: int = Field(2, gt=0, description="residual layers of a level")
    heads: int = Field(8, gt=0)
    latent_channels: int = Field(4, gt=0)
    autoencoder_widths: tuple[int, ...] = Field((128, 256, 512, 512), min_length=1)
    autoencoder_layers: int = Field(2, gt=0)
    text_width: int = Field(768, gt=0)
    text_hidden: int = Field(3072, gt=0)
    text_layers: int = Field(12, gt=0)
    text_heads: int = Field(12, gt=0)
    tokens: int = Field(77, gt=0, description="longest caption, its start and end included")
    vocabulary: int = Field(49408, gt=0)


class MultiviewConfig(BaseModel):
    """Views of one object as the cells of one image (the grid of Instant3D, arXiv 2311.06214)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(gt=0, description="pixels a side of one view")
    elevations: tuple[float, ...] = Field(
        (-18.0, 6.0, 18.0, 30.0), min_length=1, description="degrees, of the views, along the rows of the grid (Flex3D)"
    )
    columns: int = Field(2, gt=0, description="of the grid")
    objective: Literal["pipeline", "change"] = Field(
        "pipeline",
        description="what the network says: what it said in the pipeline, or how the clean latents differ from the "
        "picture's, for short trainings (32 px, 300 steps, held-out objects: 18.3 dB against 17.9)",
    )

    @model_validator(mode="after")
    def _grid_is_full(self) -> MultiviewConfig:
        if len(self.elevations) % self.columns:
            raise ValueError(f"{len(self.elevations)} elevations fill no grid of {self.columns} columns")
        if len(set(self.elevations)) < len(self.elevations):
            raise ValueError(f"elevations {list(self.elevations)} repeat; each view has its own")
        return self
