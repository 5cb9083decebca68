"""Gaussians to pixels: perspective splatting as 3DGS (arXiv 2308.04079) and gsplat (arXiv 2409.06765) do it.

A Gaussian's covariance is carried to the image by the projection's slope at its middle (EWA splatting), widened by a
blur of .3 square pixels; Gaussians are blended from near to far by the depth of their middles. Three ways lead to the
same picture: plain torch on any device (`blend`, the reference), a kernel on CPUs (`models.blending`), gsplat on CUDA.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models import blending
from models.blending import ALPHA_MAX, ALPHA_MIN, STOP
from models.camera import Camera
from models.gaussians import Gaussians
from models.triplane import Rendering

Backend = Literal["auto", "torch", "plain", "gsplat"]
NEAR, FAR = 0.01, 1e10
BLUR = 0.3  # square pixels, added to the covariance in the image
MARGIN = 0.15  # of the frame's width beyond each edge, where the projection's slope is held
REACH = 3.33  # standard deviations beyond which alpha is below what counts, whatever the opacity
TILE = 16  # pixels a side


class Projection(NamedTuple):
    """Gaussians in the images of `v` cameras. An ellipse is its middle (x right and y down, in pixels), its inverse
    covariance (xx, xy, yy) and its depth along the viewing axis; `seen` says which stand before the camera."""

    ellipses: Float[Tensor, "v n 6"]
    seen: Bool[Tensor, "v n"]


def splat(
    gaussians: Gaussians,
    cameras: Camera,
    size: int,
    background: float = 1.0,
    backend: Backend = "auto",
    tile: int = TILE,
) -> Rendering:
    """Images of `size` pixels a side from cameras [v]: rgb [v, 3, s, s], depth and weight [v, 1, s, s].

    Depth is the mean along the viewing axis (not along the ray) of what a pixel's weight is made of, 0 where nothing
    is; weight is accumulated opacity, in 0..1. A pixel is finished before the Gaussian that would leave .0001 of the
    light, as in 3DGS. Gaussians nearer than .01, or whose values are not finite, are not drawn. Gradients reach all
    five fields. `auto` takes gsplat where Gaussians are on a CUDA device and gsplat is there, else torch: kernels on
    CPUs, tensors elsewhere. `plain` is tensors everywhere, in tiles of `tile` pixels a side, which bound its memory.
    Raises ValueError where gsplat is asked for and cannot be had.
    """
    device = gaussians.positions.device
    if backend == "auto":
        backend = "gsplat" if device.type == "cuda" and gsplat_missing() is None else "torch"
    elif backend == "gsplat" and (missing := gsplat_missing(device.type)):
        raise ValueError(missing)
    cameras = cameras.to(gaussians.positions)
    if backend == "gsplat" and len(gaussians):
        sums = _gsplat(gaussians, cameras, size)
    else:
        ellipses, seen = project(gaussians, cameras, size)
        order = ellipses[..., 5].detach().masked_fill(~seen, torch.inf).argsort(dim=-1, stable=True)
        looks = (ellipses, gaussians.colours, gaussians.opacities, order, seen.sum(-1), size)
        fused = backend == "torch" and device.type == "cpu" and ellipses.dtype in (torch.float32, torch.float64)
        sums = blending.blend(*looks) if fused else blend(*looks, tile)
    rgb, depth, weight = sums.movedim(-1, 1).split((3, 1, 1), 1)
    return Rendering(rgb + (1 - weight) * background, depth / weight.clamp(min=1e-10), weight)


def project(gaussians: Gaussians, cameras: Camera, size: int) -> Projection:
    """Gaussians as ellipses in images of `size` pixels a side."""
    flip = cameras.pose.new_tensor((1.0, -1.0, -1.0))  # x right, y down, z away from the camera
    to_camera = (cameras.pose[:, :3, :3] * flip).mT  # [v, 3, 3]
    local = (gaussians.positions - cameras.pose[:, None, :3, 3]) @ to_camera.mT  # [v, n, 3]
    finite = local.isfinite().all(-1)
    seen = finite & (local[..., 2] > NEAR) & (local[..., 2] < FAR)
    x, y, depth = torch.where(seen[..., None], local, 1.0).unbind(-1)
    fx, fy, cx, cy = (size * part[:, None] for part in cameras.intrinsics.unbind(-1))  # [v, 1]
    side, up = x / depth, y / depth
    margin_x, margin_y = MARGIN * size / fx, MARGIN * size / fy
    held_side = side.clamp(-cx / fx - margin_x, (size - cx) / fx + margin_x)[..., None]
    held_up = up.clamp(-cy / fy - margin_y, (size - cy) / fy + margin_y)[..., None]
    own = gaussians.axes().mT.flatten(0, 1) @ to_camera.mT  # [v, 3n, 3]: every own axis in the camera's
    across, down, away = own.unflatten(1, (-1, 3)).unbind(-1)  # [v, n, 3] each
    across = (fx / depth)[..., None] * (across - held_side * away)  # the own axes' steps in pixels
    down = (fy / depth)[..., None] * (down - held_up * away)
    xx, yy = across.square().sum(-1), down.square().sum(-1)
    xy = (across * down).sum(-1)
    # a sum of squares: xx * yy - xy * xy would lose a needle's width to rounding
    det = torch.linalg.cross(across, down).square().sum(-1) + BLUR * (xx + yy) + BLUR**2
    parts = (fx * side + cx, fy * up + cy, (yy + BLUR) / det, -xy / det, (xx + BLUR) / det, depth)
    ellipses = torch.stack(parts, -1)
    return Projection(ellipses, seen & ellipses.detach().isfinite().all(-1))


def blend(
    ellipses: Float[Tensor, "v n 6"],
    colours: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    order: Int[Tensor, "v n"],
    seen: Int[Tensor, " v"],
    size: int,
    tile: int = TILE,
) -> Float[Tensor, "v s s 5"]:
    """`models.blending.blend` in tensors: every tile is the table of its Gaussians and pixels.

    Backward makes each tile's table anew, so that one at a time is held.
    """
    views = []
    for view, count in enumerate(seen.tolist()):
        chosen = order[view, :count]
        values = torch.cat((ellipses[view, chosen], colours[chosen], opacities[chosen, None]), -1)
        boxes = _boxes(values.detach())
        rows = []
        for y in range(0, size, tile):
            row = []
            for x in range(0, size, tile):
                corner = (x, y, min(x + tile, size), min(y + tile, size))
                low, high = values.new_tensor(corner[:2]), values.new_tensor(corner[2:])
                inside = ((boxes[:, 2:] > low) & (boxes[:, :2] < high)).all(-1)
                row.append(checkpoint(_blend_tile, values[inside], corner, use_reentrant=False))
            rows.append(torch.cat(row, 1))  # pyright: ignore[reportArgumentType]
        views.append(torch.cat(rows))
    return torch.stack(views)


def _boxes(values: Float[Tensor, "n 10"]) -> Float[Tensor, "n 4"]:
    """Left, top, right and bottom of what an ellipse can reach."""
    middle, inverse = values[:, :2], values[:, 2:5]
    a, b, c = inverse.double().unbind(-1)
    det = a * c - b * b
    half = REACH * (torch.stack((c, a), -1) / det[:, None]).sqrt()
    half = torch.where(det[:, None] > 0, half, torch.inf).to(values.dtype)  # a needle, by rounding: anywhere
    return torch.cat((middle - half, middle + half), -1)


def _blend_tile(values: Float[Tensor, "n 10"], corner: tuple[int, int, int, int]) -> Float[Tensor, "h w 5"]:
    left, top, right, bottom = corner
    ellipses, colours, opacities = values.split((6, 3, 1), -1)
    x, y, a, b, c, depth = (part[:, None, None] for part in ellipses.unbind(-1))
    dx = x - torch.arange(left, right, device=values.device, dtype=values.dtype) - 0.5  # [n, 1, w]
    dy = y - torch.arange(top, bottom, device=values.device, dtype=values.dtype)[:, None] - 0.5  # [n, h, 1]
    sigma = (0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy).clamp(min=0)
    alpha = (opacities[..., None] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    left_over = (1 - alpha).cumprod(0)
    before = F.pad(left_over[:-1], (0, 0, 0, 0, 1, 0), value=1.0) if len(values) else left_over
    shares = torch.where(left_over > STOP, alpha * before, 0)
    looks = torch.cat((colours, depth.view(-1, 1), torch.ones_like(opacities)), -1)
    return torch.einsum("nhw,nk->hwk", shares, looks)


@cache
def gsplat_missing(device: str = "cuda") -> str | None:
    """Why gsplat cannot draw Gaussians that lie on such a device, or None where it can."""
    if device != "cuda":
        return f"gsplat draws Gaussians on a CUDA device, these are on {device}"
    if not torch.cuda.is_available():
        return "gsplat draws on CUDA devices alone, and torch sees none here"
    if importlib.util.find_spec("gsplat") is None:
        return "gsplat is not installed: pip install 'orbitforge[gpu]'"
    try:
        from gsplat.cuda._backend import _C  # pyright: ignore # builds its kernels
    except Exception as error:  # whatever a compiler may say
        return f"gsplat's CUDA kernels cannot be built here: {error}"
    return None if _C is not None else "gsplat's CUDA kernels need the CUDA toolkit (nvcc), which is not found"


def _gsplat(gaussians: Gaussians, cameras: Camera, size: int) -> Float[Tensor, "v s s 5"]:
    from gsplat import rasterization  # pyright: ignore[reportMissingImports]

    flip = cameras.pose.new_tensor((1.0, -1.0, -1.0, 1.0))
    fx, fy, cx, cy = (size * cameras.intrinsics).unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    matrices = torch.stack((fx, zero, cx, zero, fy, cy, zero, zero, one), -1).unflatten(-1, (3, 3))
    single = gaussians.to(torch.float32)  # all that its kernels know
    rgbd, weight, _ = rasterization(
        single.positions,
        single.rotations,
        single.scales,
        single.opacities,
        single.colours,
        torch.linalg.inv(cameras.pose * flip).float(),
        matrices.float(),
        size,
        size,
        near_plane=NEAR,
        far_plane=FAR,
        eps2d=BLUR,
        packed=False,
        render_mode="RGB+D",
        rasterize_mode="classic",
    )
    return torch.cat((rgbd, weight), -1).to(gaussians.positions.dtype)
