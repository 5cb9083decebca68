"""Compositing of samples along rays on CPUs: one pass over each ray, forward and backward.

The same numbers as `models.triplane.march` and its sums, without their intermediate tensors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def composite(
    raw: Float[Tensor, "*r n"], rgb: Float[Tensor, "*r n 3"], depths: Float[Tensor, "*r n"], background: float
) -> Float[Tensor, "*r 5"]:
    """Colour on the background (3), mean depth and weight of rays; gradients reach raw densities and colours.

    A ray that meets nothing has the depth of its last sample.
    """
    n = raw.shape[-1]
    seen: Any = _Composite.apply(raw.reshape(-1, n), rgb.reshape(-1, n, 3), depths.reshape(-1, n), background)
    return seen.view(*raw.shape[:-1], 5)


def segment_weights(raw: Float[Tensor, "*r n"], depths: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n-1"]:
    """What each segment between neighbouring samples adds to the picture; no gradients."""
    n = raw.shape[-1]
    weights = raw.new_empty(*raw.shape[:-1], n - 1)
    _weights(*(part.detach().reshape(-1, part.shape[-1]).numpy() for part in (raw, depths, weights)))
    return weights


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, raw: Tensor, rgb: Tensor, depths: Tensor, background: float) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(raw, rgb, depths)
        ctx.background = background
        out = raw.new_empty(len(raw), 5)
        _composite(raw.detach().numpy(), rgb.detach().numpy(), depths.numpy(), background, out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        raw, rgb, depths = ctx.saved_tensors
        for_raw, for_rgb = torch.zeros_like(raw), torch.zeros_like(rgb)
        arrays: list[Any] = [part.numpy() for part in (raw, rgb, depths, grad.contiguous(), for_raw, for_rgb)]
        _composite_backward(*arrays, ctx.background)  # pyright: ignore[reportCallIssue]
        return for_raw, for_rgb, None, None


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _segment(raw, depths, i):
    """Optical depth of a segment, and its slope against the mean raw density."""
    x = (raw[i] + raw[i + 1]) / 2 - 1
    length = depths[i + 1] - depths[i]
    if x > 20:
        return x * length, length
    grown = np.exp(x)
    return np.log1p(grown) * length, grown / (1 + grown) * length


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weights(raw, depths, weights):
    for r in range(len(raw)):
        passed = 1.0
        for i in range(raw.shape[1] - 1):
            alpha = 1 - np.exp(-_segment(raw[r], depths[r], i)[0])
            weights[r, i] = alpha * passed
            passed *= 1 - alpha + 1e-10


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _composite(raw, rgb, depths, background, out):
    for r in range(len(raw)):
        passed, weight, depth = 1.0, 0.0, 0.0
        colour = out[r, :3]
        colour[:] = 0
        for i in range(raw.shape[1] - 1):
            alpha = 1 - np.exp(-_segment(raw[r], depths[r], i)[0])
            share = alpha * passed
            passed *= 1 - alpha + 1e-10
            if share != 0:
                weight += share
                depth += share * (depths[r, i] + depths[r, i + 1]) / 2
                for c in range(3):
                    colour[c] += share * (rgb[r, i, c] + rgb[r, i + 1, c]) / 2
        for c in range(3):
            colour[c] += (1 - weight) * background
        last = depths[r, -1]
        out[r, 3] = min(depth / weight, last) if weight != 0 else last
        out[r, 4] = weight


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _composite_backward(raw, rgb, depths, grad, for_raw, for_rgb, background):
    n = raw.shape[1]
    fronts, slopes, shares, lefts = np.empty(n - 1), np.empty(n - 1), np.empty(n - 1), np.empty(n - 1)
    for r in range(len(raw)):
        passed, weight, depth = 1.0, 0.0, 0.0
        for i in range(n - 1):
            optical, slope = _segment(raw[r], depths[r], i)
            left = np.exp(-optical)
            fronts[i], lefts[i], slopes[i] = passed, left + 1e-10, left * slope
            shares[i] = (1 - left) * passed
            passed *= left + 1e-10
            weight += shares[i]
            depth += shares[i] * (depths[r, i] + depths[r, i + 1]) / 2
        mean = depth / weight if weight != 0 else 0.0
        moved = weight != 0 and mean <= depths[r, -1]  # a depth that was cut does not move
        behind = 0.0  # what the segments behind this one add to the loss
        for i in range(n - 2, -1, -1):
            value = grad[r, 4]
            if moved:
                value += grad[r, 3] * ((depths[r, i] + depths[r, i + 1]) / 2 - mean) / weight
            for c in range(3):
                value += grad[r, c] * ((rgb[r, i, c] + rgb[r, i + 1, c]) / 2 - background)
                half = grad[r, c] * shares[i] / 2
                for_rgb[r, i, c] += half
                for_rgb[r, i + 1, c] += half
            half = (value * fronts[i] - behind / lefts[i]) * slopes[i] / 2
            for_raw[r, i] += half
            for_raw[r, i + 1] += half
            behind += value * shares[i]
