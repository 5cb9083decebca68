"""What decides the bytes of the fine-tuned video model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import DenoisingConfig, SamplingConfig
from stages.config import TrainingConfig


class LoraConfig(BaseModel):
    """Low-rank adapters on the attention between frames (LoRA, arXiv 2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(16, gt=0)
    alpha: int = Field(16, gt=0, description="the adapter counts alpha / rank")


class JudgeConfig(BaseModel):
    """The judge of orbits that measures the model before and after, and what it is tried on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: int = Field(1200, gt=0, description="rendered clips that it learns from")
    steps: int = Field(1200, gt=0, description="of its training, 16 clips each")
    learning_rate: float = Field(2e-3, gt=0)
    measured: int = Field(
        128, gt=0, description="rendered orbits; where it accepts one, so it does clips made from its first frame"
    )
    tried: int = Field(32, gt=0, description="orbits that it has not seen, whole and spoiled, that it is tried on")


class VideoFinetuneConfig(BaseModel):
    """Fine-tuning on the orbits of rendered training objects; the autoencoder stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: TrainingConfig = TrainingConfig.model_validate({"steps": 200, "batch": 8, "learning_rate": 2e-4})
    denoising: DenoisingConfig = DenoisingConfig.model_validate({})
    trainable: Literal["all", "temporal", "lora"] = Field(
        "all", description="the whole denoiser, its layers in time alone, or adapters that are merged at the end"
    )
    lora: LoraConfig = LoraConfig.model_validate({})
    sampling_steps: int = Field(4, ge=1, description="steps of the clips that are measured before and after")
    sampling: SamplingConfig = SamplingConfig.model_validate({})
    judge: JudgeConfig = JudgeConfig.model_validate({})
