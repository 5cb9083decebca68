"""Settings that every training shares."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainingConfig(BaseModel):
    """One training. A step draws its batch and its noise from (seed, step), so these decide the bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    batch: int = Field(gt=0, description="samples a step, over all devices")
    accumulate: int = Field(
        1,
        gt=0,
        description="equal parts that a batch is computed in, to need less memory; devices share them, and gradients "
        "are averaged: samples and noise are the same for any number of parts and devices",
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass instead of keeping them"
    )
    learning_rate: float = Field(gt=0)
    muon: float = Field(
        0.0, ge=0, description="learning rate of Muon, which then moves the matrices; 0 leaves all to AdamW"
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up; cosine decay to 0 follows")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights that are kept; 0 keeps the last")
    precision: Literal["32-true", "bf16-mixed"] = Field(
        "32-true", description="bf16-mixed falls back, with a message, on a device without bfloat16"
    )
    devices: int = Field(1, gt=0, description="of this machine; divides accumulate")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="what devices share: ddp (auto with several) the gradients, fsdp the weights as well"
    )
    threads: int = Field(1, gt=0, description="CPU threads; results differ bitwise between thread counts")
    checkpoint_every: int = Field(200, gt=0, description="steps between resume states")

    @property
    def part(self) -> int:
        """Samples that are computed at a time."""
        return self.batch // self.accumulate

    @model_validator(mode="after")
    def _parts_are_equal(self) -> TrainingConfig:
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch {self.batch}; choose a divisor")
        if self.accumulate % self.devices:
            raise ValueError(
                f"{self.devices} devices cannot share {self.accumulate} parts of a batch; make accumulate a multiple "
                "of devices"
            )
        if self.strategy == "fsdp" and self.muon:
            raise ValueError("muon needs whole matrices, which fsdp shards; set muon to 0 or strategy to ddp")
        return self


class WeightsConfig(BaseModel):
    """Weights that the user has: where they lie, and their md5, so that the preset pins them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str = Field(min_length=1, description="a file or folder on this disk, or a repository in the hub's cache")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="of the weights file")
