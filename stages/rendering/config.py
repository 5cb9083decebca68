"""What decides the bytes of rendered views."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RenderingConfig(BaseModel):
    """Defaults are the paper's where it tells them, and those of the published model where it does not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(512, ge=8, description="pixels a side")
    supersampling: int = Field(2, ge=1, le=8, description="samples a pixel and axis")
    views: int = Field(16, ge=2, description="views of one orbit, evenly spaced in azimuth")
    variants: int = Field(1, ge=1, description="versions of a training object; the first is the object as it is")
    stretch: float = Field(0.3, ge=0, lt=1, description="axes of further versions are scaled by exp(+-stretch)")
    recolour: float = Field(1.0, ge=0, le=1, description="0 keeps colours, 1 turns hues all the way round")
    invented: int = Field(
        0, ge=0, description="invented objects rendered beside those of each shard (or of a whole base training)"
    )
    orbits: int = Field(1, ge=1, description="orbits of one version, each at an elevation of its own")
    elevation: tuple[float, float] = Field((0.0, 45.0), description="degrees; one value a clip, drawn evenly")
    radius: float = Field(1.5, gt=1)
    focal: float = Field(0.75, gt=0, description="over the image width")
    fit: float = Field(0.8, gt=0, le=1, description="radius of the sphere that the object is scaled to")
    ambient: float = Field(0.6, ge=0, le=1, description="share of light that comes from everywhere")
    shading: Literal["smooth", "flat"] = Field("smooth", description="by the normals of vertices or of faces")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a CUDA device where there is one and warp-lang is installed, else numba on the CPU"
    )
    max_faces: int = Field(1_000_000, gt=0)
