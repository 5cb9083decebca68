"""Rings of cameras around an object: every azimuth at every elevation of the candidate views (Flex3D)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from stages.rendering.config import RenderingConfig


class RingsConfig(BaseModel):
    """View number `ring * azimuths + step` stands at `elevations[ring]` and `step * 360 / azimuths` degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    elevations: tuple[float, ...] = Field((-18.0, 6.0, 18.0, 30.0), min_length=1, description="degrees (Flex3D)")
    azimuths: int = Field(16, ge=2, description="views of each ring, evenly spaced from +x on (Flex3D)")
    variants: int = Field(1, ge=1, description="versions of a training object, in the place of `rendering.variants`")
    invented: int = Field(0, ge=0, description="invented objects a shard, in the place of `rendering.invented`")


def on_rings(rings: RingsConfig, config: RenderingConfig) -> RenderingConfig:
    """How objects are rendered on these rings; all else is as `config` says."""
    free = tuple(
        (step * 360 / rings.azimuths, elevation, config.radius)
        for elevation in rings.elevations
        for step in range(rings.azimuths)
    )
    update = {"rig": "free", "free": free, "orbits": 1, "variants": rings.variants, "invented": rings.invented}
    return config.model_copy(update=update)
