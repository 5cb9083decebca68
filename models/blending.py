"""Blending of projected Gaussians on CPUs: each is drawn into the image, nearest first, forward and backward.

The same numbers as `models.splatting.blend`, without a tensor of pairs: memory is that of the image and the Gaussians.
An ellipse's rows are cut where its alpha falls below what counts, so nearly every pixel that is visited counts.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

ALPHA_MAX, ALPHA_MIN = 0.999, 1 / 255
STOP = 1e-4  # a pixel is finished before the Gaussian that would leave less light than this
SUMS = 5  # of a pixel: colour (3), depth, weight


def blend(
    ellipses: Float[Tensor, "v n 6"],
    colours: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    order: Int[Tensor, "v n"],
    seen: Int[Tensor, " v"],
    size: int,
) -> Float[Tensor, "v s s 5"]:
    """Sums over each pixel's Gaussians of share times colour (3), depth and 1; gradients reach all but the order.

    An ellipse is its middle (x, y in pixels), its inverse covariance (xx, xy, yy) and its depth. `order` lists each
    view's Gaussians from near to far; the first `seen` of them are drawn.
    """
    return _Blend.apply(ellipses, colours, opacities, order, seen, size)  # pyright: ignore[reportReturnType]


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, ellipses: Tensor, colours: Tensor, opacities: Tensor, order: Tensor, seen: Tensor, size: int
    ) -> Tensor:
        inputs = tuple(part.detach().contiguous() for part in (ellipses, colours, opacities, order, seen))
        out = torch.zeros(len(seen), size, size, SUMS, dtype=torch.float64)
        _forward(*(part.numpy() for part in (*inputs, out)))
        ctx.save_for_backward(*inputs, out)
        return out.to(ellipses.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        *inputs, out = ctx.saved_tensors
        grads = tuple(torch.zeros_like(part) for part in inputs[:3])
        _backward(*(part.numpy() for part in (*inputs, out, grad.to(out.dtype).contiguous(), *grads)))
        return *grads, None, None, None


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _reach(opacity):
    """How far, in squared standard deviations, alpha counts; below 0 where it never does."""
    return 2 * np.log(opacity / ALPHA_MIN) if opacity >= ALPHA_MIN else -1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _rows(ellipse, reach, size):
    """First and last (excluded) row of pixels whose middles may lie in the ellipse."""
    a, b, c = np.float64(ellipse[2]), np.float64(ellipse[3]), np.float64(ellipse[4])
    det = a * c - b * b
    if det <= 0:  # a needle, by rounding
        return 0, size
    half = np.sqrt(reach * a / det)
    middle = ellipse[1] - 0.5
    return int(max(np.ceil(middle - half), 0)), int(min(np.floor(middle + half) + 1, size))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _columns(ellipse, reach, dy, size):
    """First and last (excluded) column of a row, `dy` above the ellipse's middle."""
    a, b, c = np.float64(ellipse[2]), np.float64(ellipse[3]), np.float64(ellipse[4])
    inside = (b * dy) ** 2 - a * (c * dy * dy - reach)
    if inside < 0:
        return 0, 0
    half = np.sqrt(inside) / a
    middle = ellipse[0] - 0.5 + b * dy / a
    return int(max(np.ceil(middle - half), 0)), int(min(np.floor(middle + half) + 1, size))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _forward(ellipses, colours, opacities, order, seen, out):
    size = out.shape[1]
    for v in range(len(seen)):
        light = np.ones((size, size))  # what reaches a pixel from behind; 0 where it is finished
        for k in range(seen[v]):
            i = order[v, k]
            ellipse, opacity = ellipses[v, i], np.float64(opacities[i])
            reach = _reach(opacity)
            if reach < 0:
                continue
            a, b, c = np.float64(ellipse[2]), np.float64(ellipse[3]), np.float64(ellipse[4])
            red, green, blue, depth = colours[i, 0], colours[i, 1], colours[i, 2], ellipse[5]
            top, bottom = _rows(ellipse, reach, size)
            for row in range(top, bottom):
                dy = ellipse[1] - (row + 0.5)
                left, right = _columns(ellipse, reach, dy, size)
                for column in range(left, right):
                    passed = light[row, column]
                    if passed == 0:
                        continue
                    dx = ellipse[0] - (column + 0.5)
                    sigma = max(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy, 0.0)
                    alpha = min(opacity * np.exp(-sigma), ALPHA_MAX)
                    if alpha < ALPHA_MIN:
                        continue
                    left_over = passed * (1 - alpha)
                    if left_over <= STOP:
                        light[row, column] = 0
                        continue
                    light[row, column] = left_over
                    share = alpha * passed
                    pixel = out[v, row, column]
                    pixel[0] += share * red
                    pixel[1] += share * green
                    pixel[2] += share * blue
                    pixel[3] += share * depth
                    pixel[4] += share


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backward(ellipses, colours, opacities, order, seen, out, grad, for_ellipses, for_colours, for_opacities):
    size = out.shape[1]
    for v in range(len(seen)):
        light = np.ones((size, size))
        behind = np.empty((size, size))  # what the Gaussians that are not yet visited add to the loss
        for row in range(size):
            for column in range(size):
                total = 0.0
                for s in range(SUMS):
                    total += grad[v, row, column, s] * out[v, row, column, s]
                behind[row, column] = total
        for k in range(seen[v]):
            i = order[v, k]
            ellipse, opacity = ellipses[v, i], np.float64(opacities[i])
            reach = _reach(opacity)
            if reach < 0:
                continue
            a, b, c = np.float64(ellipse[2]), np.float64(ellipse[3]), np.float64(ellipse[4])
            red, green, blue, depth = colours[i, 0], colours[i, 1], colours[i, 2], ellipse[5]
            for_x = for_y = for_a = for_b = for_c = for_depth = for_opacity = 0.0
            for_red = for_green = for_blue = 0.0
            top, bottom = _rows(ellipse, reach, size)
            for row in range(top, bottom):
                dy = ellipse[1] - (row + 0.5)
                left, right = _columns(ellipse, reach, dy, size)
                for column in range(left, right):
                    passed = light[row, column]
                    if passed == 0:
                        continue
                    dx = ellipse[0] - (column + 0.5)
                    sigma = max(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy, 0.0)
                    fall = np.exp(-sigma)
                    alpha = min(opacity * fall, ALPHA_MAX)
                    if alpha < ALPHA_MIN:
                        continue
                    left_over = passed * (1 - alpha)
                    if left_over <= STOP:
                        light[row, column] = 0
                        continue
                    light[row, column] = left_over
                    share = alpha * passed
                    g = grad[v, row, column]
                    value = g[0] * red + g[1] * green + g[2] * blue + g[3] * depth + g[4]
                    for_red += share * g[0]
                    for_green += share * g[1]
                    for_blue += share * g[2]
                    for_depth += share * g[3]
                    behind[row, column] -= share * value
                    if alpha == ALPHA_MAX:  # cut: it does not move
                        continue
                    slope = passed * value - behind[row, column] / (1 - alpha)
                    for_opacity += slope * fall
                    slope *= -alpha
                    for_x += slope * (a * dx + b * dy)
                    for_y += slope * (b * dx + c * dy)
                    for_a += slope * dx * dx / 2
                    for_b += slope * dx * dy
                    for_c += slope * dy * dy / 2
            for_opacities[i] += for_opacity
            for_colours[i, 0] += for_red
            for_colours[i, 1] += for_green
            for_colours[i, 2] += for_blue
            target = for_ellipses[v, i]
            target[0], target[1], target[5] = for_x, for_y, for_depth
            target[2], target[3], target[4] = for_a, for_b, for_c
