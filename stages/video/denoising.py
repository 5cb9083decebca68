"""Batches of latents for a video model's training objective, shared by the base weights and the fine-tuning."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from models.config import DenoisingConfig
from models.video import Condition, VideoModel


class Latents(NamedTuple):
    """Clips as a denoiser sees them."""

    clean: Float[Tensor, "n f c h w"]
    condition: Condition


@torch.no_grad()
def encoded(
    model: VideoModel, clips: Float[Tensor, "n f 3 s s"], config: DenoisingConfig, generator: torch.Generator
) -> Latents:
    """Encode clips that are seen once, each with one condition."""
    clean = model.encode(clips)
    conditions = model.conditions(clips[:, 0], clean[:, 0], config, generator)
    return Latents(clean, {name: copies[:, 0] for name, copies in conditions.items()})
