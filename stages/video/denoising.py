"""The training objective of the video denoiser, shared by the base weights and the fine-tuning."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.video import VideoModel, shifted
from stages.video.config import DenoisingConfig


def denoising_loss(
    model: VideoModel, clips: Float[Tensor, "n f 3 s s"], config: DenoisingConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mean squared error of the clean latents predicted from noisy ones and the first frame."""
    with torch.no_grad():
        clean = model.encode(clips)
    n = len(clean)
    level = shifted(torch.rand(n, generator=generator), model.config.shift)
    level = torch.where(torch.rand(n, generator=generator) < config.pure_noise, 1.0, level)
    noise = torch.randn(clean.shape, generator=generator)
    mixed = level[:, None, None, None, None]
    predicted = model.denoise((1 - mixed) * clean + mixed * noise, level, clean[:, 0])
    return {"loss": (predicted - clean).square().mean()}
