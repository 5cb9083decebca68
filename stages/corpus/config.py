"""What decides the bytes of the synthetic corpus."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.config import SamplingConfig


class CorpusConfig(BaseModel):
    """Sampling of clips. Batches are cut at fixed places inside a shard, because their size changes last bits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(8, ge=1, description="denoising steps")
    sampling: SamplingConfig = SamplingConfig.model_validate({})
    batch: int = Field(8, ge=1, description="clips denoised together")
    supersampling: int = Field(4, ge=1, le=8, description="of the rendered first frames")
    elevation: tuple[float, float] = Field((0.0, 45.0), description="degrees, of the first frames' cameras")
    stretch: float = Field(0.3, ge=0, lt=1)
    recolour: float = Field(1.0, ge=0, le=1)
