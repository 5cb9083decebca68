"""What decides the bytes of the multi-view image model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.multiview_config import BackboneConfig
from stages.config import TrainingConfig


class MultiviewTrainingConfig(BaseModel):
    """Fine-tuning of the UNet of a text-to-image pipeline on rings of rendered training objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str | None = Field(
        None,
        description="a folder that holds a pipeline of the Stable Diffusion family; null takes that of base_models",
    )
    backbone: BackboneConfig | None = Field(
        None, description="refuse a pipeline of other shapes than these; null takes any"
    )
    objective: Literal["pipeline", "change"] = Field(
        "pipeline", description="what the network says, see models.multiview_config; change suits short trainings"
    )
    columns: int = Field(2, gt=0, description="of the grid of views")
    training: TrainingConfig = TrainingConfig.model_validate({"steps": 1000, "batch": 16, "learning_rate": 1e-4})
    pure_noise: float = Field(
        0.5, ge=0, le=1, description="share of samples at noise level 1, where the views are decided"
    )
    captioned: float = Field(
        0.5, ge=0, le=1, description="share of samples that are told their caption, so that the model can do without"
    )
    permute_colours: bool = Field(True, description="swap the colour channels of picture and views at random")
    measured: int = Field(128, gt=0, description="pictures of each split behind the figures")
    sampling_steps: int = Field(2, ge=1, description="steps of the views that are measured")
