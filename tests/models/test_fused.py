"""Fused decoding (values and gradients) beside look-up and decoder one after the other."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import fused
from models.triplane import Decoder, Field, Triplane


def parts(
    layers: int, width: int, channels: int, side: int, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[Decoder, Tensor, Tensor]:
    torch.manual_seed(seed)
    decoder = Decoder(3 * channels, width, layers, 0.0).to(dtype)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    planes = torch.randn(2, 3, channels, side, side + 1, dtype=dtype)
    points = 2.6 * torch.rand(2, 37, 3, dtype=dtype) - 1.3  # also outside the box
    points[:, :8] = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=dtype)
    return decoder, planes, points


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(1, 9), st.integers(1, 5), st.integers(1, 7), st.integers(0, 1000))
def test_fused_and_plain_agree_with_their_gradients(
    layers: int, width: int, channels: int, side: int, seed: int
) -> None:
    decoder, planes, points = parts(layers, width, channels, side, seed)
    fused.TILE, before = 16, fused.TILE  # several tiles, the last one short
    results = []
    for plain in (True, False):
        own = planes.clone().requires_grad_()
        decoder.zero_grad()
        rgb, density = Field(decoder, Triplane(own, 0.9), plain=plain)(points)
        (rgb.sin().sum() + density.square().sum()).backward()
        gradients = [p.grad.clone() for p in (own, *decoder.parameters()) if p.grad is not None]
        results.append((rgb, density, *gradients))
    fused.TILE = before
    assert len(results[0]) == len(results[1]) == 3 + 2 * layers
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-9, rtol=1e-9)


def test_gradients_against_differences() -> None:
    decoder, planes, points = parts(4, 5, 2, 3, 0)
    first, *rest = (layer for layer in decoder.net if isinstance(layer, torch.nn.Linear))
    layers = [part.detach().requires_grad_() for layer in rest for part in (layer.weight, layer.bias)]
    folded = fused.fold(planes, first.weight.detach()).requires_grad_()
    for start in (first.bias.detach(), torch.randn(2, 37, 5, dtype=torch.float64)):
        start.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda f, s, *own: fused.decode(f, points, s, own), (folded, start, *layers), eps=1e-7, atol=1e-5
        )


def test_points_that_are_no_numbers_do_not_crash() -> None:
    decoder, planes, points = parts(3, 4, 2, 4, 0, torch.float32)
    points[0, 0], points[0, 1], points[0, 2] = torch.nan, torch.inf, -1e30
    with torch.no_grad():
        _, density = Field(decoder, Triplane(planes))(points)
    assert density[:, 3:].isfinite().all()
