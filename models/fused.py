"""Decoding of points on CPUs, by exact algebra: the same numbers as look-up and decoder, several times faster.

A bilinear look-up is linear, and so is the decoder's first layer: multiplied into the planes once, it costs nothing a
point, and a point reads three times the decoder's width instead of all channels. What remains runs in tiles that stay
in the cache. Backward computes each tile anew instead of keeping it, so memory does not grow with the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 1024  # points whose hidden values stay in the second-level cache
EXACT = {"contract", "reassoc", "nsz", "arcp"}  # faster sums, but NaN and infinity keep their meaning

Layers = Sequence[Tensor]  # weight and bias of the decoder's second layer, of its third, ...


def fold(planes: Float[Tensor, "b 3 c h w"], weight: Float[Tensor, "k 3c"]) -> Float[Tensor, "b 3 h w k"]:
    """The planes, with the decoder's first layer multiplied in; channels last, so that a texel is one read."""
    by_plane = weight.unflatten(1, (3, -1))  # [k, 3, c]
    return torch.einsum("bpchw,kpc->bphwk", planes, by_plane).contiguous()


def decode(
    folded: Float[Tensor, "b 3 h w k"],
    points: Float[Tensor, "b n 3"],
    start: Float[Tensor, " k"] | Float[Tensor, "b n k"],
    layers: Layers,
) -> Float[Tensor, "b n outputs"]:
    """What the decoder says of points in -1..1 (zeros lie beyond); `start` is the first layer's bias, or bias and more
    for every point. Gradients reach everything but the points.
    """
    return _Decode.apply(folded, points, start, *layers)  # pyright: ignore[reportReturnType]


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, folded: Tensor, points: Tensor, start: Tensor, *layers: Tensor) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(folded, points, start, *layers)
        out = points.new_empty(*points.shape[:2], layers[-1].shape[0])
        space = workspace(folded, layers)
        with torch.no_grad():
            for item, first, last in _tiles(points):
                own = _own(start, item, first, last)
                hidden = _hidden(folded[item], points[item, first:last], own, layers, space)[-1]
                head(hidden.numpy(), layers[-2].numpy(), layers[-1].numpy(), out[item, first:last].numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        folded, points, start, *layers = ctx.saved_tensors
        for_planes, for_start = torch.zeros_like(folded), torch.zeros_like(start)
        for_layers = [torch.zeros_like(part) for part in layers]
        space, other = workspace(folded, layers), workspace(folded, layers)
        for item, first, last in _tiles(points):
            where = points[item, first:last]
            hidden = _hidden(folded[item], where, _own(start, item, first, last), layers, space)
            upper = other[-1][: last - first]
            narrow = (hidden[-1], layers[-2], grad[item, first:last].contiguous(), upper, *for_layers[-2:])
            head_backward(*(part.numpy() for part in narrow))
            for depth in reversed(range(len(hidden) - 1)):
                for_layers[2 * depth].addmm_(upper.T, hidden[depth])
                for_layers[2 * depth + 1].add_(upper.sum(0))
                lower = torch.mm(upper, layers[2 * depth], out=other[depth][: last - first])
                upper = torch.ops.aten.threshold_backward.grad_input(lower, hidden[depth], 0, grad_input=lower)
            scatter(upper.numpy(), where.numpy(), for_planes[item].numpy())
            if start.ndim == 1:
                for_start += upper.sum(0)
            else:
                for_start[item, first:last] = upper
        return for_planes, None, for_start, *for_layers


def _tiles(points: Float[Tensor, "b n 3"]) -> list[tuple[int, int, int]]:
    b, n, _ = points.shape
    return [(item, first, min(first + TILE, n)) for item in range(b) for first in range(0, n, TILE)]


def _own(start: Tensor, item: int, first: int, last: int) -> Float[Tensor, "1 k"] | Float[Tensor, "n k"]:
    return start[None] if start.ndim == 1 else start[item, first:last]


def workspace(like: Tensor, layers: Layers) -> list[Float[Tensor, "tile k"]]:
    """Room for the hidden values of a tile, layer by layer: allocating them anew costs a fifth of a matrix product."""
    widths = [layers[0].shape[1], *(weight.shape[0] for weight in layers[:-2:2])]
    return [like.new_empty(TILE, width) for width in widths]


def _hidden(
    folded: Tensor, points: Tensor, start: Tensor, layers: Layers, space: list[Tensor]
) -> list[Float[Tensor, "n k"]]:
    """The hidden values of every layer but the last."""
    gather(folded.numpy(), points.numpy(), start.numpy(), space[0][: len(points)].numpy())
    return hidden_from(len(points), layers, space)


def hidden_from(count: int, layers: Layers, space: list[Tensor]) -> list[Float[Tensor, "n k"]]:
    """The same, where those of the first layer stand in the first `count` rows of `space[0]`."""
    hidden = [room[:count] for room in space]
    for depth in range(len(hidden) - 1):
        # `addmm` takes twice as long: it spreads the bias over the result first
        torch.mm(hidden[depth], layers[2 * depth].detach().T, out=hidden[depth + 1])
        rectify(hidden[depth + 1].numpy(), layers[2 * depth + 1].detach().numpy())
    return hidden


# Kernels. Shapes: planes [3 h w k], points [n 3] in -1..1, hidden values [n k].


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def _taps(point, plane, h, w, rows, shares):
    """The four texels around a point in one of the stacked planes, and their shares; 0 beyond the edge."""
    across = point[2] if plane == 2 else point[0]  # the planes are (x, y), (x, z), (z, y)
    up = point[2] if plane == 1 else point[1]
    x, y = ((across + 1.0) * w - 1) / 2, ((up + 1.0) * h - 1) / 2
    x = x if x > -1 else -1.0  # also for NaN
    y = y if y > -1 else -1.0
    x, y = min(x, w + 0.0), min(y, h + 0.0)
    left, top = int(x + 1) - 1, int(y + 1) - 1
    right, low = x - left, y - top
    for k in range(4):
        column, row = left + k % 2, top + k // 2
        inside = column >= 0 and column < w and row >= 0 and row < h
        share = (right if k % 2 else 1 - right) * (low if k // 2 else 1 - low)
        shares[k] = share if inside else 0.0
        rows[k] = (plane * h + row) * w + column if inside else 0


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def gather(planes, points, start, out):
    """out = ReLU(start + the three look-ups); `start` has one row, or one for each point."""
    _, h, w, width = planes.shape
    texels = planes.reshape(3 * h * w, width)
    rows, shares = np.empty(4, np.int64), np.empty(4, planes.dtype)
    for i in range(len(points)):
        begin, own = start[i if len(start) > 1 else 0], out[i]
        for c in range(width):
            own[c] = begin[c]
        for plane in range(3):
            _taps(points[i], plane, h, w, rows, shares)
            first, second, third, fourth = texels[rows[0]], texels[rows[1]], texels[rows[2]], texels[rows[3]]
            p, q, r, s = shares[0], shares[1], shares[2], shares[3]
            for c in range(width):
                own[c] += p * first[c] + q * second[c] + r * third[c] + s * fourth[c]
        for c in range(width):
            if own[c] < 0:
                own[c] = 0


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def scatter(values, points, planes):
    """Add the values of points to the texels they were read from: the transpose of the look-up."""
    _, h, w, width = planes.shape
    texels = planes.reshape(3 * h * w, width)
    rows, shares = np.empty(4, np.int64), np.empty(4, planes.dtype)
    for i in range(len(points)):
        for plane in range(3):
            _taps(points[i], plane, h, w, rows, shares)
            for k in range(4):
                texel, share = texels[rows[k]], shares[k]
                for c in range(width):
                    texel[c] += share * values[i, c]


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def rectify(hidden, bias):
    """ReLU(hidden + bias), in place."""
    for i in range(len(hidden)):
        row = hidden[i]
        for c in range(len(row)):
            value = row[c] + bias[c]
            row[c] = value if value > 0 else 0


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def head(hidden, weight, bias, out):
    """The last layer, whose few outputs are too narrow for a matrix product."""
    for i in range(len(hidden)):
        row = hidden[i]
        for o in range(len(bias)):
            column = weight[o]
            total = bias[o]
            for c in range(len(row)):
                total += row[c] * column[c]
            out[i, o] = total


@numba.njit(cache=True, fastmath=EXACT, nogil=True)
def head_backward(hidden, weight, grad, for_hidden, for_weight, for_bias):
    """From the gradient of the outputs: that before the ReLU under them; those of weight and bias are added to."""
    for i in range(len(hidden)):
        row, own = hidden[i], for_hidden[i]
        own[:] = 0
        for o in range(len(weight)):
            column, share, total = weight[o], grad[i, o], for_weight[o]
            for_bias[o] += share
            for c in range(len(row)):
                own[c] += share * column[c]
                total[c] += share * row[c]
        for c in range(len(row)):
            if not row[c] > 0:
                own[c] = 0
