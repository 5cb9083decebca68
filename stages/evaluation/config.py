"""What decides the numbers of an evaluation."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.config import WeightsConfig
from stages.evaluation.protocols import SingleImage, read_protocol
from stages.quality.config import ClipConfig, DinoConfig
from stages.reconstruction.config import MeshConfig


class JudgesConfig(BaseModel):
    """Networks that judge, where the user has their weights. Without them the base encoder stands in, under names of
    its own (feature_distance, encoder_similarity), and what has no substitute is reported as missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lpips: WeightsConfig | None = Field(None, description="torchvision's VGG-16; null: feature_distance stands in")
    clip: ClipConfig | None = Field(None, description="an open_clip model, for clip_image and clip_text")
    dino: DinoConfig | None = Field(None, description="a DINOv2 of transformers")


class EvaluationConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: SingleImage = Field(
        default_factory=lambda: _single_image("held-out"),
        description="the id of one that ships, a .yaml file, or its keys",
    )
    judges: JudgesConfig = JudgesConfig.model_validate({})
    mesh: MeshConfig = Field(MeshConfig.model_validate({}), description="of the surfaces that are compared and shown")
    gallery: int = Field(8, ge=0, description="objects that are shown, spread over all")
    cost: bool = Field(
        True, description="measure seconds and memory of each asset; these are not the same twice, so bytes are not"
    )

    @field_validator("protocol", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return _single_image(value) if isinstance(value, str) else value


def _single_image(name: str) -> SingleImage:
    found = read_protocol(name)
    if not isinstance(found, SingleImage):
        raise ValueError(
            f"{name} is a protocol of kind {found.kind}; the asset asks for single-image, the command "
            f"`orbitforge evaluate --protocol {name}` takes all"
        )
    return found
