"""What decides the bytes of the candidate views."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CandidatesConfig(BaseModel):
    """Pools of candidate views: those of the multi-view model, and an orbit that starts from one of them.

    First frames and clips are made as the section `corpus` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int | None = Field(None, ge=1, description="of each shard, the first by id; null takes all")
    samples: int = Field(1, ge=1, description="pools of each prompt; the second of p0007 is p0007-1, and so on")
    views: int = Field(16, ge=2, description="of the orbit (Flex3D)")
    elevation: float = Field(
        6.0,
        description="degrees, of the orbit (Flex3D); one of the multi-view model's, whose view the orbit starts from",
    )
    steps: int = Field(2, ge=1, description="denoising steps of the multi-view model")
    batch: int = Field(8, ge=1, description="pools made together")
