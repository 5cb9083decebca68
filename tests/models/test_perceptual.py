"""Perceptual distances: the substitute, and LPIPS itself beside torchmetrics with the same backbone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import vgg16

from models.config import EncoderConfig
from models.encoder import Encoder
from models.perceptual import Lpips, TokenDistance


def test_the_substitute_is_0_for_equal_images_and_grows_with_blur() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(image_size=16, table_size=16, patch=4, width=12, layers=2, heads=2))
    distance = TokenDistance(encoder)
    image = torch.rand(3, 3, 16, 16, requires_grad=True)
    soft = [image.detach(), *(F.avg_pool2d(image.detach(), size, 1, size // 2) for size in (3, 5))]
    far = torch.stack([distance(image, other) for other in soft])
    assert far[0].max() < 1e-6
    assert (far[1] > 1e-3).all()
    assert far[2].mean() > far[1].mean()
    far.sum().backward()
    assert image.grad is not None
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_lpips_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.image.lpips import _LPIPS

    torch.manual_seed(0)
    backbone = vgg16(weights=None)
    reference = _LPIPS(net="vgg", pnet_rand=True)
    names = {name: f"features.{name.split('.', 1)[1]}" for name in reference.net.state_dict()}
    reference.net.load_state_dict({name: backbone.state_dict()[key] for name, key in names.items()})
    a, b = torch.rand(2, 2, 3, 32, 32)
    ours = Lpips(backbone.state_dict(), "vgg16.safetensors")(a, b)
    torch.testing.assert_close(ours, reference(a, b, normalize=True).flatten())
    assert (ours > 0).all()
    with pytest.raises(ValueError, match="missing: slice"):
        Lpips({"features.0.weight": torch.zeros(3, 3)}, "other.safetensors")
