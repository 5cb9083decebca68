"""How different two images look: distances between features of a frozen network, in LPIPS' way.

LPIPS (arXiv 1801.03924) takes the features of every layer as unit vectors and averages their squared differences over
the places of the image. Its VGG-16 is the user's to bring; `TokenDistance` puts the layers of an image encoder in its
place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.checkpoints import load_weights
from models.encoder import Encoder

Distance = Callable[[Float[Tensor, "n 3 h w"], Float[Tensor, "n 3 h w"]], Float[Tensor, " n"]]
"""Of pairs of RGB images in 0..1; 0 for equal ones."""


class TokenDistance(nn.Module):
    """The substitute for LPIPS where no such weights are to be had: patch tokens of all layers of `encoder`, as it is
    now, all layers and channels counting alike. 0 for equal images, at most 4."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = deepcopy(encoder).requires_grad_(False).eval()

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Of RGB images in 0..1; gradients reach both."""
        layers = [
            (F.normalize(one[:, 1:], dim=-1) - F.normalize(other[:, 1:], dim=-1)).square().sum(-1).mean(1)
            for one, other in zip(self.encoder.layers(a), self.encoder.layers(b), strict=True)
        ]
        return torch.stack(layers).mean(0)


class Lpips(nn.Module):
    """LPIPS itself with VGG-16; its linear heads come with torchmetrics."""

    def __init__(self, backbone: Mapping[str, Tensor], source: str) -> None:
        """`backbone` is torchvision's VGG-16 (`features.0.weight`, ...), from the file `source`. Raises ValueError
        naming the first wrong keys."""
        from torchmetrics.functional.image.lpips import _LPIPS

        super().__init__()
        self.net = _LPIPS(net="vgg", pnet_rand=True).requires_grad_(False).eval()
        names = {f"features.{name.split('.', 1)[1]}": name for name in self.net.net.state_dict()}
        own = {names.get(key, key): tensor for key, tensor in backbone.items() if key.startswith("features.")}
        load_weights(self.net.net, own, source)

    def forward(self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Of RGB images in 0..1, at least 16 pixels a side; gradients reach both."""
        return self.net(a, b, normalize=True).flatten()
