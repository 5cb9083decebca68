"""How clips are judged: the features, the elevation estimator, the classifier, the labels and the verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.config import TrainingConfig
from stages.rendering.config import RenderingConfig


class FeaturesConfig(BaseModel):
    """The image embedding behind every label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: Literal["dinov2", "open_clip"] = Field(
        "dinov2", description="open_clip reads open_clip_model.safetensors in the encoder's folder"
    )
    open_clip_model: str = Field("ViT-B-32", description="architecture name, with backbone open_clip")
    batch: int = Field(16, gt=0, description="clips embedded at once; part of the bytes through floating point")


class ElevationConfig(BaseModel):
    """The estimator of a clip's elevation: a small MLP on the embedding of each view, averaged over the clip."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(64, gt=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    copies: int = Field(6, gt=0, description="mirrored, recoloured, weathered copies of each training orbit")
    training: TrainingConfig = TrainingConfig.model_validate(
        {"steps": 600, "batch": 256, "learning_rate": 2e-3, "warmup": 20, "weight_decay": 0.05, "ema": 0.98}
    )


class ClassifierConfig(BaseModel):
    """The SVM that scores clips, trained on the verdicts of people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: int = Field(16, gt=0, description="principal components kept of the pooled embedding")
    penalty: float = Field(3.0, gt=0, description="C of the SVM: the price of a clip on the wrong side")
    folds: int = Field(5, ge=2, description="of the cross-validation; an object is in one fold only")
    precision: float = Field(
        0.9, gt=0, le=1, description="wanted among accepted clips; the threshold is the lowest that reaches it"
    )


class VerdictConfig(BaseModel):
    """What makes a labelled clip accepted. The rules stand beside the score because they can be explained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float | None = Field(None, ge=0, le=1, description="least score; null takes the classifier's own")
    smallest: float = Field(0.01, ge=0, le=1, description="least share of foreground in any view")
    border: float = Field(0.25, ge=0, le=1, description="largest share of border pixels that are foreground")
    motion: float = Field(0.01, ge=0, description="least mean change between neighbouring views, 0..1")
    keep_least: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the corpus that is accepted in any case, best score first among clips that break no "
        "rule: a small video model may stay below a threshold that was set on cleaner clips",
    )
    minimum: int = Field(1, ge=1, description="fewer accepted clips are an error: nothing could be trained on them")


class QualityConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    features: FeaturesConfig = FeaturesConfig.model_validate({})
    elevation: ElevationConfig = ElevationConfig.model_validate({})
    classifier: ClassifierConfig = ClassifierConfig.model_validate({})
    verdict: VerdictConfig = VerdictConfig.model_validate({})
    whiteness: float = Field(0.08, gt=0, lt=1, description="how far from white a background pixel may be")


class LabelsConfig(BaseModel):
    """The labelled clips that ship with the sample data; a clip has the frames that the video model generates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rendering: RenderingConfig = RenderingConfig.model_validate({"size": 32, "views": 8})
    good: int = Field(76, gt=0, description="clean orbits")
    spoiled: int = Field(9, gt=0, description="clips of each kind of spoil")
    stretch: float = Field(0.3, ge=0, lt=1, description="axes are scaled by exp(+-stretch)")
    visible: float = Field(0.04, ge=0, description="least change, 0..1, inside the object for a spoil to count")
    date: str = Field("2026-11-23", description="when the verdicts were given; fixed, so that bytes repeat")
