"""What decides the bytes of rendered views."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    rig: Literal["orbit", "elevations", "sphere", "free"] = Field(
        "orbit", description="see stages/rendering/cameras.py"
    )
    elevation: tuple[float, float] = Field((0.0, 45.0), description="degrees; one value a clip, drawn evenly")
    elevations: tuple[float, ...] = Field(
        (-18.0, 6.0, 18.0, 30.0), min_length=1, description="rig elevations: degrees, one view each (Flex3D)"
    )
    heights: tuple[float, float] = Field((-0.75, 1.6), description="rig sphere: of the cameras (OpenLRM)")
    radii: tuple[float, float] = Field((1.9, 2.6), description="rig sphere: distances from the origin (OpenLRM)")
    free: tuple[tuple[float, float, float], ...] = Field(
        (), description="rig free: azimuth and elevation in degrees, and distance, of each view"
    )
    radius: float = Field(1.5, gt=1)
    focal: float = Field(0.75, gt=0, description="over the image width; .75 is a field of view of 67.4 degrees")
    fit: float = Field(0.8, gt=0, le=1, description="radius of the sphere that the object is scaled to")
    ambient: float = Field(0.6, ge=0, le=1, description="share of light that comes from everywhere")
    shading: Literal["smooth", "flat"] = Field("smooth", description="by the normals of vertices or of faces")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a CUDA device where there is one and warp-lang is installed, else numba on the CPU"
    )
    geometry: bool = Field(False, description="store depth and normals of the views with each orbit")
    max_faces: int = Field(1_000_000, gt=0)

    @model_validator(mode="after")
    def _cameras_can_stand_there(self) -> RenderingConfig:
        if self.rig == "free" and not self.free:
            raise ValueError("rig free needs cameras in `free`: [[azimuth, elevation, radius], ...]")
        steep = [angle for angle in (*self.elevation, *self.elevations, *(f[1] for f in self.free)) if abs(angle) > 89]
        if steep:
            raise ValueError(f"elevation {steep[0]}: straight above and below, up has no direction; stay within 89")
        if any(radius <= self.fit for radius in (*self.radii, *(f[2] for f in self.free))):
            raise ValueError(f"a camera stands within the object, whose sphere has radius fit {self.fit}")
        low, high = self.heights
        if low >= high or low >= self.radii[0] or high <= -self.radii[0]:
            raise ValueError(f"heights {self.heights} leave no place on spheres of {self.radii}")
        return self
