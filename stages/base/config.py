"""How the base weights are made: on renders of training objects alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import DenoisingConfig, EncoderConfig, TextToImageConfig, VideoConfig, WanConfig
from stages.config import TrainingConfig
from stages.rendering.config import RenderingConfig


class BankConfig(BaseModel):
    """The rendered views that base trainings draw from: deformed and recoloured training objects on orbits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rendering: RenderingConfig = RenderingConfig.model_validate({"size": 32})
    variants: int = Field(16, ge=1, description="versions of one object; the first is the object as it is")
    orbits: int = Field(2, ge=1, description="orbits of one version, each at an elevation of its own")
    stretch: float = Field(0.3, ge=0, lt=1, description="axes are scaled by exp(+-stretch)")
    recolour: float = Field(1.0, ge=0, le=1, description="0 keeps colours, 1 turns hues all the way round")
    grid: int = Field(0, ge=0, description="cells a side of the solid space kept of each version; 0 keeps none")


class EncoderTrainingConfig(BaseModel):
    """The base image encoder: a small Dinov2 taught by matching views and by the renderer's own geometry.

    What stands behind the visible surface is taught as well, along the ray of each pixel: depth alone did not carry
    over to unseen objects, and with 54 training objects neither did solid space; thousands of invented ones did it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderConfig
    bank: BankConfig = BankConfig.model_validate(
        {
            "rendering": {"size": 32, "supersampling": 4, "views": 3, "invented": 6000},
            "variants": 24,
            "orbits": 3,
            "grid": 48,
        }
    )
    training: TrainingConfig = TrainingConfig.model_validate(
        {
            "steps": 12000,
            "batch": 24,
            "learning_rate": 4e-3,
            "muon": 0.02,
            "warmup": 100,
            "weight_decay": 0.05,
            "ema": 0.995,
            "checkpoint_every": 500,
        }
    )
    """`batch` counts pairs of views."""
    depths: int = Field(32, ge=1, description="places along the ray of a pixel where solid space is taught")
    columns: int = Field(64, ge=1, description="pixels of an image whose rays are taught in one step")
    solid: float = Field(3.0, ge=0, description="weight of solid space beside the other dense lessons")
    temperature: float = Field(0.1, gt=0, description="of the view-contrastive loss")
    contrast: float = Field(0.3, ge=0, description="weight of the view-contrastive loss beside the dense ones")
    tilt: float = Field(0.3, ge=0, description="weight of the elevation's error, in standard deviations")

    @model_validator(mode="after")
    def _pairs_stay_together(self) -> EncoderTrainingConfig:
        if self.training.accumulate > 1:
            raise ValueError("the encoder's batch is compared with itself: set base.encoder.training.accumulate to 1")
        return self


class VideoTrainingConfig(BaseModel):
    """The base video model: frame autoencoder, then denoiser, on clips cut from dense rings of views."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    video: VideoConfig = WanConfig.model_validate({})
    bank: BankConfig = BankConfig.model_validate(
        {
            "rendering": {"size": 32, "supersampling": 4, "views": 24, "invented": 4000},
            "variants": 64,
            "orbits": 2,
        }
    )
    autoencoder: TrainingConfig = TrainingConfig.model_validate(
        {"steps": 3500, "batch": 32, "learning_rate": 2e-3, "ema": 0.99, "warmup": 20, "checkpoint_every": 500}
    )
    chroma: float = Field(6.0, ge=0, description="extra weight of colour differences in the autoencoder")
    general: float = Field(
        0.25, ge=0, le=1, description="share of clips that are no whole orbit: slower, or the other way round"
    )
    denoiser: TrainingConfig = TrainingConfig.model_validate(
        {
            "steps": 31500,
            "batch": 8,
            "learning_rate": 1e-3,
            "muon": 0.01,
            "ema": 0.998,
            "warmup": 50,
            "weight_decay": 0.01,
            "checkpoint_every": 250,
        }
    )
    denoising: DenoisingConfig = DenoisingConfig.model_validate({})


class TextToImageTrainingConfig(BaseModel):
    """The base text-to-image model: image autoencoder, then denoiser and text encoder, on captioned renders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: TextToImageConfig = TextToImageConfig.model_validate({})
    rendering: RenderingConfig = RenderingConfig.model_validate(
        {"size": 32, "supersampling": 4, "views": 4, "variants": 16, "invented": 4000}
    )
    """`views` are those of one version of an object, at elevations and azimuths of their own."""
    own: float = Field(0.2, ge=0, le=1, description="share of images that keep their colours; the caption has no word")
    unconditional: float = Field(0.1, ge=0, lt=1, description="share of images without a caption, for guidance")
    autoencoder: TrainingConfig = TrainingConfig.model_validate(
        {"steps": 900, "batch": 32, "learning_rate": 3e-3, "ema": 0.99, "warmup": 50, "checkpoint_every": 250}
    )
    denoiser: TrainingConfig = TrainingConfig.model_validate(
        {
            "steps": 5000,
            "batch": 32,
            "learning_rate": 2e-3,
            "ema": 0.998,
            "warmup": 100,
            "weight_decay": 0.01,
            "checkpoint_every": 250,
        }
    )
