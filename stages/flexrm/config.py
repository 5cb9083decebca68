"""What decides the bytes of a FlexRM. Flex3D leaves nearly all of these numbers untold: they are ours."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.flexrm_config import VIEWS, FlexRMConfig
from stages.config import TrainingConfig
from stages.reconstruction.config import ExportConfig, LossConfig


class ViewDrawConfig(BaseModel):
    """How a training batch is drawn: some views of each object go in, others supervise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most: int = Field(
        VIEWS,
        ge=1,
        le=VIEWS,
        description="input views of a step are 1 to this many, as likely few as many: evenly in their logarithm",
    )
    side_views: int = Field(4, ge=1, description="supervised views of each object")
    rays: int = Field(192, ge=1, description="rays of each object in a step, over all its supervised views")
    near_object: float = Field(0.85, ge=0, le=1, description="share of rays drawn at and around the object")
    mirror: bool = Field(True, description="half of the objects left to right")
    permute_colours: bool = Field(True, description="colour channels in random order")
    curated: float = Field(0.1, ge=0, le=1, description="share of the steps on curated pools in the place of renders")


class ImperfectConfig(BaseModel):
    """Imperfect-input simulation: Gaussians of clean views, disturbed within random cubes, rendered as input views."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.5, ge=0, le=1, description="of the input views of the second stage")
    cubes: int = Field(3, ge=1, description="of an object")
    side: float = Field(0.4, gt=0, description="of a cube, over the half side of the box")
    shift: float = Field(0.05, ge=0, description="deviation of positions, and of each cube as a whole, in world units")
    colour: float = Field(0.15, ge=0, description="deviation of the colour of a cube")
    lost: float = Field(0.3, ge=0, le=1, description="share of the Gaussians of a cube that vanish")


class ViewsProtocolConfig(BaseModel):
    """Reconstruction of held-out objects from more and more views of their rings, measured at views that never go in.

    Even steps of a ring may be inputs, spread out from the first one; of the odd ones every `every`th is truth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    counts: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32), min_length=1, description="input views")
    azimuth: float = Field(225.0, description="degrees; the first input is the view nearest to it")
    elevation: float = Field(6.0, description="degrees, likewise")
    every: int = Field(2, ge=1)
    most: int | None = Field(200, ge=1, description="objects at most, chosen by the hash of their ids; null: all")
    pools: int = Field(3, ge=1, description="pools of each object that are spoiled, each by other draws")
    spoiled: float = Field(0.5, ge=0, le=1, description="share of the views of these pools that is spoiled")


class FlexRMTrainingConfig(BaseModel):
    """Two stages: volume rendering of the planes, then Gaussians that start from them (Flex3D)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: FlexRMConfig = FlexRMConfig.model_validate({})
    train_encoder: bool = Field(
        True, description="false trains what cameras change of the encoder, not its base weights"
    )
    volume: TrainingConfig = TrainingConfig.model_validate({"steps": 30000, "batch": 512, "learning_rate": 4e-4})
    gaussians: TrainingConfig = TrainingConfig.model_validate({"steps": 10000, "batch": 512, "learning_rate": 1e-4})
    draws: ViewDrawConfig = ViewDrawConfig.model_validate({})
    losses: LossConfig = LossConfig.model_validate({})
    kept: float = Field(0.5, ge=0, description="weight of the first stage's loss in the second, which meshes live on")
    imperfect: ImperfectConfig = ImperfectConfig.model_validate({})
    protocol: ViewsProtocolConfig = ViewsProtocolConfig.model_validate({})
    export: ExportConfig = ExportConfig.model_validate({})
