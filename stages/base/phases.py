"""A base model is trained part by part, each with a curve of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from stages.config import TrainingConfig
from stages.seeds import sample_seed
from stages.training import Draw, Loss, Report, fit


def train_part(
    model: nn.Module,
    parts: Sequence[nn.Module],
    loss: Loss,
    draw: Draw,
    settings: TrainingConfig,
    name: str,
    *,
    seed: int,
    scratch: Path,
    report: Report,
    loggers: list[Any] | None,
) -> pl.DataFrame:
    """Train these `parts` of `model` alone; the rows of the curve are called `name`/..."""
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    curve = fit(
        model,
        loss,
        draw,
        settings,
        seed=sample_seed(seed, name),
        scratch=scratch / name,
        report=report,
        loggers=loggers,
    )
    return curve.with_columns(name=pl.format("{}/{}", pl.lit(name), "name"))
