"""Densities on a regular grid, slab by slab: what marching cubes want, at a memory that does not grow with the cube.

On a grid the look-ups separate: each plane is sampled once along either of its axes, and a point adds three rows.
Blocks whose density stays below a wanted level are passed over; linear bounds through the decoder say which, for sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numba
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from models import fused
from models.triplane import Field, density_of

BLOCK = 4  # points a side
BLOCKS = fused.TILE // BLOCK**3  # decoded at once
POINTS = 1 << 17  # asked at once where the field is not separable
BOUNDED = 1 << 10  # blocks bounded at once: what they need stays in the cache
MARGIN = 1e-3  # of raw density, for the rounding of the bounds


@torch.no_grad()
def density_slabs(field: Field, side: int, below: float | None = None) -> Iterator[Float[Tensor, "rows side side"]]:
    """Density of the first object of `field` at `side` points an axis from face to face of its box, x slab by x slab.

    Where a point and all its neighbours surely lie below the density `below`, 0 stands instead.
    """
    if not field.fused or field.planes.view is not None:
        yield from _asked(field, side)
        return
    planes, layers = field.folded[0], field.layers
    top = [*layers[:-2], layers[-2][:1], layers[-1][:1]]  # density alone
    heights, widths = (_interpolation(side, size, planes) for size in planes.shape[1:3])
    lines = [_lines(plane, heights) for plane in planes]
    zy = (widths @ lines.pop()).contiguous()  # the one plane that all slabs share
    bounds = None if below is None else _Bounds(zy, field.bias, top)
    count = -(-side // BLOCK)
    blocks = torch.cartesian_prod(torch.arange(count), torch.arange(count))
    for first in range(0, side, BLOCK):
        across = widths[_with_neighbours(side)[first // BLOCK]]
        xy, xz = ((across @ plane).transpose(0, 1).contiguous() for plane in lines)
        chosen = blocks
        if bounds is not None and below is not None:
            chosen = blocks[bounds.highest(xy, xz) > raw_of(below) - MARGIN]
        raw = torch.full((BLOCK, side, side), -torch.inf, dtype=planes.dtype)
        _fill(xy[1:-1], xz[1:-1], zy, field.bias, top, chosen, raw)
        yield density_of(raw[: side - first])


def _lines(plane: Float[Tensor, "h w k"], up: Float[Tensor, "s h"]) -> Float[Tensor, "s w k"]:
    """A plane along lines of one axis; a product with the shares of the other axis samples it where they cross."""
    return (up @ plane.flatten(1)).unflatten(1, plane.shape[1:])


def raw_of(density: float) -> float:
    """The inverse of `density_of`, for a density above 0."""
    return 1 + density + math.log(-math.expm1(-density))


def _asked(field: Field, side: int) -> Iterator[Float[Tensor, "rows side side"]]:
    line = torch.linspace(-1, 1, side, device=field.planes.planes.device) * field.planes.box
    line = line.to(field.planes.planes.dtype)
    yz = torch.cartesian_prod(line, line)
    for x in line:
        points = torch.cat((x.expand(len(yz), 1), yz), 1)
        raw = torch.cat([field(part[None])[1][0] for part in points.split(POINTS)])
        yield density_of(raw).view(1, side, side)


def _interpolation(side: int, size: int, like: Tensor) -> Float[Tensor, "side size"]:
    """Shares of the texels of a line in the points of a grid; nothing beyond the last texel."""
    place = ((torch.linspace(-1, 1, side, dtype=torch.float64) + 1) * size - 1) / 2
    return (1 - (place[:, None] - torch.arange(size)).abs()).clamp(min=0).to(like.dtype)


def _with_neighbours(side: int) -> Int64[Tensor, "blocks rows"]:
    """For each block of a line its points, and one more at either end."""
    return (torch.arange(-(-side // BLOCK))[:, None] * BLOCK + torch.arange(-1, BLOCK + 1)).clamp(0, side - 1)


class _Affine(NamedTuple):
    """Values over a block as middle + slopes . (place in -1..1 along each axis), no further away than `reach`."""

    middle: Float[Tensor, "*blocks k"]
    slopes: tuple[Float[Tensor, "*blocks k"], ...]
    reach: Float[Tensor, "*blocks k"]


def _affine(values: Float[Tensor, "*blocks n n k"]) -> _Affine:
    """The affine function nearest to the values of blocks, and how far off it is."""
    n = values.shape[-2]
    place = torch.linspace(-1, 1, n, dtype=values.dtype)
    first, second = place[:, None, None], place[:, None]
    norm = n * place.square().sum()
    slopes = (values * first).sum((-3, -2)) / norm, (values * second).sum((-3, -2)) / norm
    rest = values - slopes[0][..., None, None, :] * first - slopes[1][..., None, None, :] * second
    high, low = rest.amax((-3, -2)), rest.amin((-3, -2))
    return _Affine((high + low) / 2, slopes, (high - low) / 2)


class _Bounds:
    """A raw density that no point of a block or next to it exceeds.

    Forward, the hidden values of a block are kept as affine functions of the place with an error; where a ReLU may bend
    them, the band around it widens the error (a zonotope). Backward, the one output is
    followed through those bands (CROWN, arXiv 1811.00866), which is tighter.
    """

    def __init__(self, zy: Float[Tensor, "side side k"], bias: Float[Tensor, " k"], layers: fused.Layers) -> None:
        self.windows = _with_neighbours(zy.shape[0])
        # block row by block row: the windows overlap, and all of them at once would take twice the plane
        rows = [_affine(zy[rows][:, self.windows].transpose(0, 1)) for rows in self.windows]
        self.zy = _Affine(
            torch.stack([row.middle for row in rows]),
            (torch.stack([row.slopes[0] for row in rows]), torch.stack([row.slopes[1] for row in rows])),
            torch.stack([row.reach for row in rows]),
        )
        self.bias, self.layers = bias, layers

    def highest(self, xy: Float[Tensor, "rows side k"], xz: Float[Tensor, "rows side k"]) -> Float[Tensor, " blocks"]:
        """For the blocks of an x slab, given with its neighbours, row by row."""
        xy_, xz_ = (_affine(part[:, self.windows].transpose(0, 1)) for part in (xy, xz))
        zy = self.zy
        middle = (xy_.middle[:, None] + xz_.middle + zy.middle + self.bias).flatten(0, 1)
        reach = (xy_.reach[:, None] + xz_.reach + zy.reach).flatten(0, 1)
        along_x = xy_.slopes[0][:, None] + xz_.slopes[0]
        along_y, along_z = xy_.slopes[1][:, None] + zy.slopes[0], xz_.slopes[1] + zy.slopes[1]
        slopes = torch.stack((along_x, along_y, along_z)).flatten(1, 2)
        parts = [
            self._highest(*some)
            for some in zip(middle.split(BOUNDED), slopes.split(BOUNDED, 1), reach.split(BOUNDED), strict=True)
        ]
        return torch.cat(parts)

    def _highest(
        self, middle: Float[Tensor, "m k"], slopes: Float[Tensor, "3 m k"], reach: Float[Tensor, "m k"]
    ) -> Float[Tensor, " m"]:
        weights, biases = self.layers[::2], self.layers[1::2]
        start, bands = (middle, slopes, reach), []
        for weight, bias in zip(weights, biases, strict=True):
            far = slopes.abs().sum(0) + reach
            up, down = (far + middle).clamp(min=0), (far - middle).clamp(min=0)
            share = up / (up + down).clamp(min=1e-12)  # ReLU(x) <= share * (x + down)
            bands.append((share, share * down, (up > down).to(share.dtype)))  # ReLU(x) >= 0 and >= x
            half = share * down / 2
            middle = torch.addmm(bias, share * middle + half, weight.T)
            slopes, reach = (share * slopes) @ weight.T, (share * reach + half) @ weight.abs().T
        along, total = weights[-1].expand(len(reach), -1), biases[-1].expand(len(reach))
        for (share, offset, lower), weight, bias in zip(
            reversed(bands), [*reversed(weights[:-1]), None], [*reversed(biases[:-1]), None], strict=True
        ):
            above, below = along.clamp(min=0), along.clamp(max=0)
            total = total + (above * offset).sum(1)
            along = above * share + below * lower
            if weight is not None and bias is not None:
                total, along = total + along @ bias, along @ weight
        middle, slopes, reach = start
        return total + (along * middle).sum(1) + (along * slopes).sum(2).abs().sum(0) + (along.abs() * reach).sum(1)


def _fill(
    xy: Float[Tensor, "rows side k"],
    xz: Float[Tensor, "rows side k"],
    zy: Float[Tensor, "side side k"],
    bias: Float[Tensor, " k"],
    layers: fused.Layers,
    blocks: Int64[Tensor, "m 2"],
    raw: Float[Tensor, "rows side side"],
) -> None:
    """Raw densities of the blocks of a slab, into `raw`."""
    space = fused.workspace(zy, layers)
    for part in blocks.split(BLOCKS):
        count = len(part) * BLOCK**3
        _add_rows(xy.numpy(), xz.numpy(), zy.numpy(), bias.detach().numpy(), part.numpy(), space[0].numpy())
        hidden = fused.hidden_from(count, layers, space)[-1]
        out = hidden.new_empty(len(hidden), 1)
        fused.head(hidden.numpy(), layers[-2].detach().numpy(), layers[-1].detach().numpy(), out.numpy())
        _put(out.numpy()[:, 0], part.numpy(), raw.numpy())


@numba.njit(cache=True, fastmath=fused.EXACT, nogil=True)
def _add_rows(xy, xz, zy, bias, blocks, out):
    """The first layer's hidden values of all points of some blocks; a block that sticks out repeats its last row."""
    side, width = zy.shape[1:]
    i = 0
    for b in range(len(blocks)):
        for dx in range(BLOCK):
            for dy in range(BLOCK):
                y = min(blocks[b, 0] * BLOCK + dy, side - 1)
                shared = xy[dx, y]
                for dz in range(BLOCK):
                    z = min(blocks[b, 1] * BLOCK + dz, side - 1)
                    own, second, third = out[i], xz[dx, z], zy[y, z]
                    for c in range(width):
                        value = shared[c] + second[c] + third[c] + bias[c]
                        own[c] = value if value > 0 else 0
                    i += 1


@numba.njit(cache=True, nogil=True)
def _put(values, blocks, raw):
    side = raw.shape[1]
    i = 0
    for b in range(len(blocks)):
        for dx in range(BLOCK):
            for dy in range(BLOCK):
                for dz in range(BLOCK):
                    y, z = blocks[b, 0] * BLOCK + dy, blocks[b, 1] * BLOCK + dz
                    if y < side and z < side:
                        raw[dx, y, z] = values[i]
                    i += 1
