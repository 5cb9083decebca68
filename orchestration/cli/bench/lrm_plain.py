"""The yardstick of `bench lrm`: look-up, decoder and renderer as the published conventions say, with nothing clever.

`grid_sample` for the planes, the decoder layer by layer, points in chunks of 2^20, all rays of a call at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.lrm import Block, ModulatedNorm

CHUNK = 1 << 20


def ask(
    planes: Float[Tensor, "3 c h w"], net: nn.Module, points: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Raw density and colour of points in the box of half side 1."""
    raw, rgb = [], []
    for part in points.split(CHUNK):
        grid = torch.stack((part[:, [0, 1]], part[:, [0, 2]], part[:, [2, 1]]))[:, None]
        features = F.grid_sample(planes, grid, align_corners=False)[:, :, 0]  # [3, c, n]
        out = net(features.permute(2, 0, 1).flatten(1))
        raw.append(out[:, 0])
        rgb.append(torch.sigmoid(out[:, 1:]) * 1.002 - 0.001)
    return torch.cat(raw), torch.cat(rgb)


def render(
    planes: Float[Tensor, "3 c h w"],
    net: nn.Module,
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    samples: int,
) -> tuple[Float[Tensor, "r 3"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Colour on white, depth and weight of rays that all hit the box, half of the samples placed by importance."""
    slabs = torch.stack(((-1 - origins) / directions, (1 - origins) / directions))
    near, far = slabs.amin(0).amax(1, keepdim=True), slabs.amax(0).amin(1, keepdim=True)
    n = samples // 2
    depths = near + (far - near) * (torch.arange(n) + 0.5) / (n - 1)
    raw, rgb = _along(planes, net, origins, directions, depths)
    with torch.no_grad():
        fine = _importance(depths, _weights(raw, depths), (torch.arange(n) + 0.5) / n)
    fine_raw, fine_rgb = _along(planes, net, origins, directions, fine)
    depths, order = torch.cat((depths, fine), 1).sort(1)
    raw = torch.cat((raw, fine_raw), 1).gather(1, order)
    rgb = torch.cat((rgb, fine_rgb), 1).gather(1, order[..., None].expand(-1, -1, 3))
    weights = _weights(raw, depths)
    weight = weights.sum(1)
    colour = (weights[..., None] * (rgb[:, 1:] + rgb[:, :-1]) / 2).sum(1) + 1 - weight[:, None]
    depth = (weights * (depths[:, 1:] + depths[:, :-1]) / 2).sum(1) / weight
    return colour, torch.nan_to_num(depth, torch.inf).clamp(max=depths.max()), weight


def _along(
    planes: Tensor, net: nn.Module, origins: Tensor, directions: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    points = origins[:, None] + depths[..., None] * directions[:, None]
    raw, rgb = ask(planes, net, points.flatten(0, 1))
    inside = (points.abs() <= 1).all(-1)
    return torch.where(inside, raw.view(depths.shape), -1e30), rgb.view(*depths.shape, 3) * inside[..., None]


def _weights(raw: Float[Tensor, "r n"], depths: Float[Tensor, "r n"]) -> Float[Tensor, "r n-1"]:
    density = F.softplus((raw[:, 1:] + raw[:, :-1]) / 2 - 1)
    alpha = 1 - torch.exp(-density * depths.diff(dim=1))
    passed = torch.cumprod(torch.cat((torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10), 1), 1)
    return alpha * passed[:, :-1]


def _importance(depths: Float[Tensor, "r n"], weights: Float[Tensor, "r n-1"], u: Float[Tensor, " n"]) -> Tensor:
    smooth = F.avg_pool1d(F.max_pool1d(weights[:, None], 2, 1, padding=1), 2, 1)[:, 0] + 0.01
    odds = smooth[:, 1:-1] + 1e-5
    odds = odds / odds.sum(1, keepdim=True)
    below = torch.cat((torch.zeros_like(odds[:, :1]), odds.cumsum(1)), 1)
    bins = (depths[:, 1:] + depths[:, :-1]) / 2
    u = u.expand(len(depths), -1).contiguous()
    upper = torch.searchsorted(below, u, right=True)
    left, right = (upper - 1).clamp(min=0), upper.clamp(max=below.shape[1] - 1)
    step = below.gather(1, right) - below.gather(1, left)
    part = (u - below.gather(1, left)) / torch.where(step < 1e-5, 1, step)
    return bins.gather(1, left) + part * (bins.gather(1, right) - bins.gather(1, left))


class PlainBlock(nn.Module):
    """A transformer block as one would write it: torch's own layers, every activation kept for the backward pass."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, image: Tensor, condition: Tensor) -> Tensor:
        block = self.block
        x = x + block.cross_attn(_modulated(block.norm1, x, condition), image, image, need_weights=False)[0]
        y = _modulated(block.norm2, x, condition)
        x = x + block.self_attn(y, y, y, need_weights=False)[0]
        return x + block.mlp(_modulated(block.norm3, x, condition))


def _modulated(norm: ModulatedNorm, x: Tensor, condition: Tensor) -> Tensor:
    shift, scale = norm.mlp(condition)[:, None].chunk(2, -1)
    return norm.norm(x) * (1 + scale) + shift
