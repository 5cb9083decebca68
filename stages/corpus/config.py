"""What decides the bytes of the synthetic corpus."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.config import SamplingConfig
from stages.quality.config import SaliencyConfig


class TextToImageUse(BaseModel):
    """How first frames are drawn from text: which diffusers pipeline, how it is asked, and what is taken of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str | None = Field(
        None, description="a folder that holds a diffusers text-to-image pipeline; null takes that of base_models"
    )
    version: str | None = Field(
        None, pattern="^[0-9a-f]{32}$", description="refuse another pipeline than this one; samples say which it was"
    )
    wording: str = Field("{text}", description="what the pipeline is told: '{text}, on a plain white background'")
    negative: str = Field("", description="what it is told to avoid")
    steps: int = Field(12, ge=1, description="denoising steps")
    guidance: float = Field(4.0, ge=0)
    size: int | None = Field(None, gt=0, description="pixels a side that it draws; null leaves it to the pipeline")
    saliency: SaliencyConfig | None = Field(None, description="finds the object on any background; null: it is white")
    whiteness: float = Field(0.12, gt=0, lt=1, description="how far from white a background pixel may be")
    fill: float = Field(
        0.76, gt=0, le=1, description="longer side of the object's box over the frame's, as renders have it on average"
    )
    smallest: float = Field(0.02, ge=0, le=1, description="least share of foreground")
    border: float = Field(0.1, ge=0, le=1, description="largest share of border pixels that the object touches")

    @field_validator("wording")
    @classmethod
    def _holds_the_text(cls, wording: str) -> str:
        if "{text}" not in wording:
            raise ValueError(f"{wording!r} has no {{text}}, where the prompt goes")
        return wording


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
    first_frame: Literal["render", "text"] = Field(
        "render",
        description="of prompts that name an object: its render, deformed and recoloured, or what text-to-image draws; "
        "prompts that name none are always drawn from their text",
    )
    text_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="with first_frame render: share of the prompts drawn from text all the same",
    )
    text: TextToImageUse = TextToImageUse.model_validate({})
