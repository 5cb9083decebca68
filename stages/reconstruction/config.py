"""What decides the bytes of the reconstruction models and of what is exported from them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import LRMConfig
from stages.config import TrainingConfig, WeightsConfig
from stages.quality.config import SaliencyConfig


class DrawConfig(BaseModel):
    """How a training batch is drawn from orbits of views."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side_views: int = Field(3, ge=1, description="supervised views beside the input view")
    rays: int = Field(192, ge=1, description="rays of each object in a step, over all its supervised views")
    near_object: float = Field(0.5, ge=0, le=1, description="share of rays drawn at and around the object")
    mirror: bool = Field(True, description="half of the objects left to right")
    permute_colours: bool = Field(True, description="colour channels in random order")
    patch: int = Field(
        0,
        ge=0,
        description="side of one square patch of each supervised view, near the object, in the place of `rays` single "
        "rays: what losses of whole images look at; 0 draws single rays (VFusion3D, strategy 2)",
    )
    sizes: tuple[int, ...] = Field(
        (),
        description="pixels a side of the supervised views, step by step in even shares of the training (VFusion3D, "
        "strategy 1: from 128 to 384); empty: as they are",
    )
    camera_noise: float = Field(
        0.0, ge=0, description="deviation of the supervised cameras, degrees about the up axis (VFusion3D, strategy 4)"
    )
    height_noise: float = Field(0.0, ge=0, description="the same in elevation, degrees")
    focal_noise: float = Field(0.0, ge=0, lt=1, description="the same of the focal length, relative")

    @model_validator(mode="after")
    def _patches_fit(self) -> DrawConfig:
        if self.patch and self.sizes and self.patch > min(self.sizes):
            raise ValueError(
                f"a patch of {self.patch} px does not fit into views of {min(self.sizes)} px (draws.sizes)"
            )
        if any(size < 1 for size in self.sizes) or list(self.sizes) != sorted(self.sizes):
            raise ValueError(f"draws.sizes are {list(self.sizes)}; they must rise from at least 1")
        return self


class LossConfig(BaseModel):
    """Weights of the losses on rays, and on patches of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    squared: float = Field(1.0, ge=0, description="of the squared colour error")
    absolute: float = Field(
        0.0, ge=0, description="of the absolute colour error, which forgives views that disagree more than squares do"
    )
    opacity: float = Field(0.5, ge=0, description="of the squared error of accumulated opacity against the mask")
    perceptual: float = Field(
        0.0, ge=0, description="of the perceptual distance of patches, in the place of pixel losses (draws.patch)"
    )
    lpips: WeightsConfig | None = Field(
        None,
        description="torchvision's VGG-16 as safetensors: LPIPS then is the perceptual distance; null: the substitute, "
        "distances between the tokens of the model's own image encoder as training finds it",
    )


class LRMTrainingConfig(BaseModel):
    """What both trainings of the LRM have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_encoder: bool = Field(
        True, description="train the image encoder too, as the paper does; false keeps its base weights"
    )
    training: TrainingConfig
    draws: DrawConfig = DrawConfig.model_validate({})
    losses: LossConfig = LossConfig.model_validate({})

    @model_validator(mode="after")
    def _perceptual_has_patches(self) -> Self:
        if self.losses.perceptual and not self.draws.patch:
            raise ValueError(f"losses.perceptual is {self.losses.perceptual}, but draws.patch is 0; give it patches")
        return self


class PretrainConfig(LRMTrainingConfig):
    """Training on accepted synthetic clips alone, from the base image encoder (VFusion3D, section on pre-training).

    The paper drops pixel losses for LPIPS there (`losses.perceptual`, on patches). No LPIPS weights ship with the
    project, and by default the absolute error stands in for it.
    """

    model: LRMConfig = LRMConfig.model_validate({})
    radius: float = Field(1.5, gt=0, description="of the generated orbits")
    training: TrainingConfig = TrainingConfig.model_validate({"steps": 30000, "batch": 1024, "learning_rate": 4e-4})
    draws: DrawConfig = DrawConfig.model_validate({"camera_noise": 1.0})
    losses: LossConfig = LossConfig.model_validate({"squared": 0.0, "absolute": 0.5})


class MeshConfig(BaseModel):
    """Marching cubes, and what becomes of the surface."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: int = Field(512, ge=8, description="points a side")
    threshold: float | None = Field(
        None,
        gt=0,
        description="density of the surface; null takes the one whose silhouettes agree best with the volume's. The "
        "published VFusion3D uses 1, OpenLRM 3",
    )
    smallest_part: float = Field(
        0.01, ge=0, le=1, description="parts that enclose a smaller share of the largest's volume are left out"
    )
    faces: int | None = Field(20000, ge=4, description="at most so many; null leaves what marching cubes made")
    texture: int | None = Field(
        1024, ge=16, le=8192, description="pixels a side, about; null colours the vertices instead"
    )


class TurntableConfig(BaseModel):
    """The video of a reconstruction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = Field(160, ge=2)
    rate: int = Field(40, gt=0, description="frames a second")
    size: int = Field(384, gt=0)
    elevation: float = 15.0
    focal: float = Field(0.75, gt=0)
    radius: float = Field(1.5, gt=0, description="distance of the cameras")


class ExportConfig(BaseModel):
    """From one image to files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mesh: MeshConfig = MeshConfig.model_validate({})
    turntable: TurntableConfig = TurntableConfig.model_validate({})
    up: Literal["y", "z"] = Field("y", description="the axis that points up in the files; glTF asks for y")
    scale: float | None = Field(None, gt=0, description="units of the longest side; null leaves the size as it is")
    saliency: SaliencyConfig | None = Field(
        None, description="finds the object on any background; null: the background has one colour, or is transparent"
    )
    fill: float = Field(0.72, gt=0, le=1, description="share of the picture that the object's longer side takes")
    elevation: float = Field(20.0, description="degrees, of the camera that took the picture, where nobody says")
    radius: float = Field(1.5, gt=0, description="distance of the camera that took the picture")
    focal: float = Field(0.75, gt=0)


class ProtocolConfig(BaseModel):
    """Single-image reconstruction of objects by other makers: one fixed input view, the other views of the orbit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_azimuth: float = Field(225.0, description="degrees; the view nearest to it is the input")
    size: int = Field(32, gt=0)


class FinetuneConfig(LRMTrainingConfig):
    """Fine-tuning on the true views of rendered training objects, and what is measured and exported at the end."""

    training: TrainingConfig = TrainingConfig.model_validate({"steps": 5000, "batch": 256, "learning_rate": 1e-4})
    protocol: ProtocolConfig = ProtocolConfig.model_validate({})
    export: ExportConfig = ExportConfig.model_validate({})
