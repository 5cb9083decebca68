"""How different two pictures look, by features: LPIPS where its weights are on this disk, and a substitute of its role.

The substitute is built like LPIPS (arXiv 1801.03924): features of every layer of a frozen image encoder, normalised to
unit length at each place, squared differences summed over channels, averaged over places and layers. Its encoder is the
project's own, and no weights of channels are learned from people's judgements: values compare methods with each other
under one encoder, not with LPIPS.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from models.encoder import Encoder

Distance = Callable[[Float[Tensor, "n 3 s s"], Float[Tensor, "n 3 s s"]], Float[Tensor, " n"]]
"""Of pairs of pictures, RGB in 0..1; 0 for equal ones."""

BATCH = 64
BACKBONES = {"alex": "alexnet-owt-*.pth", "vgg": "vgg16-*.pth", "squeeze": "squeezenet1_1-*.pth"}
"""The networks of LPIPS, and torchvision's files of their weights, in order of preference."""


def feature_distance(encoder: Encoder) -> Distance:
    """The substitute under a copy of `encoder`, which may be trained further meanwhile."""
    frozen = copy.deepcopy(encoder).eval().requires_grad_(False)

    def layers(images: Float[Tensor, "n 3 s s"]) -> list[Float[Tensor, "n tokens width"]]:
        kept: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out))
            for layer in frozen.model.encoder.layer
        ]
        try:
            frozen(images)
        finally:
            for hook in hooks:
                hook.remove()
        first = 1 + frozen.config.registers  # patches alone: places of the picture
        return [F.normalize(out[:, first:], dim=-1, eps=1e-10) for out in kept]

    @torch.no_grad()
    def distance(first: Float[Tensor, "n 3 s s"], second: Float[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
        parts = []
        for one, other in zip(first.split(BATCH), second.split(BATCH), strict=True):
            pairs = zip(layers(one), layers(other), strict=True)
            parts.append(torch.stack([(a - b).square().sum(-1).mean(-1) for a, b in pairs]).mean(0))
        return torch.cat(parts)

    return distance


def lpips() -> tuple[str, Distance] | None:
    """LPIPS of torchmetrics and the name of its network, where torchvision's weights of one are in the hub's folder of
    this disk (TORCH_HOME); None otherwise. Nothing is downloaded."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    net = next((name for name, files in BACKBONES.items() if list(folder.glob(files))), None)
    try:
        from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as measured
    except ImportError:
        return None
    if net is None:
        return None

    @torch.no_grad()
    def distance(first: Float[Tensor, "n 3 s s"], second: Float[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
        sized = [
            F.interpolate(part, (64, 64), mode="bilinear") if part.shape[-1] < 64 else part for part in (first, second)
        ]
        one, other = (part.clamp(0, 1) for part in sized)
        pairs = zip(one.split(1), other.split(1), strict=True)
        return torch.stack([measured(a, b, net_type=net, normalize=True) for a, b in pairs])  # pyright: ignore

    return net, distance
