"""Bench: Gaussians drawn the plain way, every one of them at every pixel, by the papers' formulas in tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera

CHUNK = 256  # pixels at a time


def splat(
    positions: Float[Tensor, "n 3"],
    scales: Float[Tensor, "n 3"],
    rotations: Float[Tensor, "n 4"],
    opacities: Float[Tensor, " n"],
    colours: Float[Tensor, "n 3"],
    cameras: Camera,
    size: int,
) -> Float[Tensor, "v 5 s s"]:
    """Colour on white, mean depth and weight."""
    w, x, y, z = (rotations / rotations.norm(dim=-1, keepdim=True)).T
    turns = torch.stack(
        [
            torch.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z], -1),
        ],
        1,
    )
    covariances = turns @ torch.diag_embed(scales**2) @ turns.mT
    line = torch.arange(size) + 0.5
    pixels = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    views = []
    for camera in (cameras[k] for k in range(len(cameras.pose))):
        world_to_camera = torch.linalg.inv(camera.pose @ torch.diag(torch.tensor([1.0, -1, -1, 1])))
        local = positions @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        fx, fy, cx, cy = size * camera.intrinsics
        depth = local[:, 2]
        wide, high = 0.15 * size / fx, 0.15 * size / fy
        side = (local[:, 0] / depth).clamp(-cx / fx - wide, (size - cx) / fx + wide)
        up = (local[:, 1] / depth).clamp(-cy / fy - high, (size - cy) / fy + high)
        none = torch.zeros_like(depth)
        across = torch.stack([fx / depth, none, -fx * side / depth], -1)
        down = torch.stack([none, fy / depth, -fy * up / depth], -1)
        slope = torch.stack([across, down], 1) @ world_to_camera[:3, :3]
        inverse = torch.linalg.inv(slope @ covariances @ slope.mT + 0.3 * torch.eye(2))
        middle = torch.stack([fx * local[:, 0] / depth + cx, fy * local[:, 1] / depth + cy], -1)
        order = depth.argsort()
        order = order[depth[order] > 0.01]
        looks = torch.cat([colours, depth[:, None], torch.ones_like(depth)[:, None]], -1)[order]
        sums = []
        for some in pixels.split(CHUNK):
            off = some[:, None] - middle[order]  # [pixels, n, 2]
            sigma = 0.5 * torch.einsum("pni,nij,pnj->pn", off, inverse[order], off)
            alpha = (opacities[order] * torch.exp(-sigma)).clamp(max=0.999)
            alpha = torch.where(alpha < 1 / 255, 0, alpha)
            light = torch.cumprod(1 - alpha, 1)
            before = torch.cat([torch.ones(len(some), 1), light[:, :-1]], 1)
            sums.append(torch.where(light > 1e-4, alpha * before, 0) @ looks)
        colour, deep, weight = torch.cat(sums).split([3, 1, 1], -1)
        image = torch.cat([colour + 1 - weight, deep / weight.clamp(min=1e-10), weight], -1)
        views.append(image.T.view(5, size, size))
    return torch.stack(views)
