"""Compositing in one pass beside the sums over segments, with gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compositing import composite, segment_weights
from models.triplane import EMPTY, march


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.1, 30), st.floats(0, 1))
def test_one_pass_and_sums_agree_with_their_gradients(n: int, seed: int, scale: float, background: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(6, n, generator=generator, dtype=torch.float64)
    raw[0] = EMPTY
    raw[1, ::2] = EMPTY
    raw[2, 0] = 60.0  # opaque at once
    rgb, depths, kept = (torch.rand(6, n, *more, generator=generator, dtype=torch.float64) for more in ((3,), (), (5,)))
    depths = 1 + depths.sort(-1).values
    both = []
    for fused in (True, False):
        own = raw.clone().requires_grad_(), rgb.clone().requires_grad_()
        if fused:
            seen = composite(*own, depths, background)
        else:
            weights, colours, middles = march(own[1], own[0], depths)
            weight = weights.sum(-1, keepdim=True)
            depth = (weights * middles).sum(-1, keepdim=True) / weight.clamp(min=1e-300)
            depth = torch.where(weight > 0, depth.minimum(depths[:, -1:]), depths[:, -1:])
            colour = (weights[..., None] * colours).sum(-2) + (1 - weight) * background
            seen = torch.cat((colour, depth, weight), -1)
            torch.testing.assert_close(segment_weights(raw, depths), weights.detach(), atol=1e-12, rtol=0)
        (seen * kept[:, 0]).sum().backward()
        both.append((seen, own[0].grad, own[1].grad))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)
