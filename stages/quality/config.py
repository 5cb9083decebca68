"""How clips are judged: the features, the elevation estimator, the classifier, the labels and the verdict."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.config import TrainingConfig, WeightsConfig
from stages.rendering.config import RenderingConfig


class DinoConfig(WeightsConfig):
    """A DINOv2 as transformers saves it: a folder, or such as facebook/dinov2-small in the hub's cache."""

    size: int = Field(224, gt=0, description="pixels a side that views are resized to")


class ClipConfig(WeightsConfig):
    """An open_clip model: a .safetensors file, a folder with one, or a repository in the hub's cache."""

    architecture: str = Field("ViT-B-32", description="as open_clip names it")


class SaliencyConfig(WeightsConfig):
    """A salient-object network as rembg keeps them (u2net.onnx, isnet-general-use.onnx); needs onnxruntime."""

    size: int = Field(320, gt=0, description="pixels a side that views are resized to; 1024 for isnet")
    normalise: Literal["imagenet", "half"] = Field("imagenet", description="half (mean 0.5, spread 1) for isnet")
    threshold: float = Field(0.5, gt=0, lt=1, description="least saliency of foreground")


class FeaturesConfig(BaseModel):
    """What is measured of a clip: embeddings of its views, and silhouettes against the cameras of an orbit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dino: DinoConfig | None = Field(None, description="null takes the encoder of base_models")
    clip: ClipConfig | None = Field(
        None, description="embeddings beside DINO's, and the agreement of views and caption; null leaves both out"
    )
    saliency: SaliencyConfig | None = Field(None, description="null: the background is white")
    radius: float = Field(1.5, gt=1, description="distance of the orbit's cameras, as rendered")
    focal: float = Field(0.75, gt=0, description="over the image width, as rendered")
    batch: int = Field(16, gt=0, description="clips embedded at once; part of the bytes through floating point")


class ElevationConfig(BaseModel):
    """The estimator of a clip's elevation: a small MLP on each view's embedding and the clip's carving profile,
    averaged over the views."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(64, gt=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    views: int = Field(8, ge=2, description="views of the clips to be labelled; orbits with more are thinned out")
    copies: int = Field(3, gt=0, description="the orbit, and recoloured, weathered, mirrored or bent copies of it")
    doubt: float = Field(0.5, ge=0, lt=1, description="share of training views shown with another clip's embedding")
    bend: float = Field(0.03, ge=0, description="how far copies are bent at most, in image sizes; generated clips are")
    training: TrainingConfig = TrainingConfig.model_validate(
        {"steps": 1000, "batch": 256, "learning_rate": 2e-3, "warmup": 20, "weight_decay": 0.05, "ema": 0.98}
    )


class ClassifierConfig(BaseModel):
    """The SVM that scores clips, trained on the verdicts of people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    components: int = Field(
        4, gt=0, description="principal components kept of the pooled embedding; more labels can tell more apart"
    )
    penalty: float = Field(2.0, gt=0, description="C of the SVM: the price of a clip on the wrong side")
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
    band: tuple[float, float] = Field(
        (0.05, 0.98),
        description="least and largest accepted share that raise no alarm: beyond it says more about the filter than "
        "about the clips; the paper kept 67.5 %",
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
