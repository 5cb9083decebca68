"""What is done to images before the encoder and to its tokens after it, in base training and in every later use."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def weathered(images: Float[Tensor, "m 3 h w"], generator: torch.Generator) -> Float[Tensor, "m 3 h w"]:
    """A quarter of the images slightly blurred, all with slight noise: generated frames are not as clean as renders."""
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blurred = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.25
    noise = 0.02 * torch.randn(images.shape, generator=generator).to(images.device)
    return (torch.where(blurred, soft, images) + noise).clamp(0, 1)


def summary(tokens: Float[Tensor, "m t d"]) -> Float[Tensor, "m three_d"]:
    """One vector an image: the class token (what is seen), mean and spread of the patches (how it stands there)."""
    return torch.cat((tokens[:, 0], tokens[:, 1:].mean(1), tokens[:, 1:].std(1)), 1)
