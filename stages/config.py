"""Settings that every training shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """One training. A step draws its batch and its noise from (seed, step), so these decide the bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    muon: float = Field(
        0.0, ge=0, description="learning rate of Muon, which then moves the matrices; 0 leaves all to AdamW"
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up; cosine decay to 0 follows")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 keeps the last")
    precision: str = "32-true"
    devices: int = Field(1, gt=0)
    strategy: str = "auto"
    threads: int = Field(1, gt=0, description="CPU threads; results differ bitwise between thread counts")
    checkpoint_every: int = Field(200, gt=0, description="steps between resume states")


class WeightsConfig(BaseModel):
    """Weights that the user has: where they lie, and their md5, so that the preset pins them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(min_length=1, description="a file or folder on this disk, or a repository in the hub's cache")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="of the weights file")
