"""Perceptual distances: the substitute, and LPIPS itself beside torchmetrics with the same backbone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import vgg16

from models.config import EncoderConfig
from models.encoder import Encoder
from models.perceptual import Lpips, TokenDistance


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(image_size=16, table_size=16, patch=4, width=12, layers=2, heads=2))


def test_the_substitute_is_0_for_equal_images_and_grows_with_blur() -> None:
    distance = TokenDistance(encoder())
    image = torch.rand(3, 3, 16, 16, requires_grad=True)
    soft = [image.detach(), *(F.avg_pool2d(image.detach(), size, 1, size // 2) for size in (3, 5))]
    far = torch.stack([distance(image, other) for other in soft])
    assert far[0].max() < 1e-6
    assert (far[1] > 1e-3).all()
    assert far[2].mean() > far[1].mean()
    far.sum().backward()
    assert image.grad is not None
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_features_see_more_the_more_pictures_differ() -> None:
    distance = TokenDistance(encoder())
    picture = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    steps = [distance(picture, torch.lerp(picture, noise, share)) for share in (0.0, 0.2, 0.6, 1.0)]
    assert (steps[0] == 0).all()
    assert all((near < far).all() for near, far in pairwise(steps))
    torch.testing.assert_close(distance(picture, noise), distance(noise, picture))


def test_features_are_compared_as_lpips_does() -> None:
    """Against the definition, written out for one pair, with the hidden states that transformers gives."""
    made = encoder()
    a, b = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    total = 0.0
    with torch.no_grad():
        states = [made.model((image - mean) / std, output_hidden_states=True).hidden_states[1:] for image in (a, b)]
    for one, other in zip(*states, strict=True):
        for p, q in zip(one[0, 1:], other[0, 1:], strict=True):
            total += float((p / p.norm() - q / q.norm()).square().sum()) / (len(one[0]) - 1) / len(states[0])
    assert float(TokenDistance(made)(a, b)) == pytest.approx(total, rel=1e-4)


def test_the_measure_does_not_move_with_the_model() -> None:
    made = encoder()
    distance = TokenDistance(made)
    a, b = torch.rand(2, 1, 3, 16, 16).unbind(0)
    before = distance(a, b)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    assert torch.equal(distance(a, b), before)


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
