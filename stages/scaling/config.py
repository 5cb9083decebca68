"""Which small LRMs `scaling_trends` trains: sizes of the synthetic set and of the 3D set, and what is switched."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GridConfig(BaseModel):
    """Which points there are. It decides no point's bytes: a grid that grows leaves finished points as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: tuple[int, ...] = Field((), description="sizes of the synthetic set, rising; the last is the whole of it")
    objects: tuple[int, ...] = Field((), description="sizes of the 3D set, rising; the last is the whole of it")
    compared: int | None = Field(
        None, gt=0, description="clips at which corpora are compared: filtered or not, by another video model"
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of the subsets and of the trainings")

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        for name in ("clips", "objects"):
            sizes = getattr(self, name)
            if any(size < 1 for size in sizes) or list(sizes) != sorted(set(sizes)):
                raise ValueError(f"scaling.grid.{name} are {list(sizes)}; they must rise from at least 1")
        return self


class ScalingConfig(BaseModel):
    """Points are trained as `pretrain` and `finetune` say, with these steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(
        1000, ge=2, description="optimiser steps of every point, whatever it learns from: half on each where from both"
    )
    grid: GridConfig = GridConfig.model_validate({})
