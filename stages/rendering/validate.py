"""Do the stored cameras belong to the stored views? Proven from silhouettes alone, so it works on any shard.

If all cameras are right, the ray of every object pixel passes through the visual hull of the other views: somewhere on
it lies a point that every other view sees inside its silhouette. A camera that is turned, mirrored, swapped or of
another convention breaks that for all but symmetric objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from models.camera import Camera
from stages.poses import off_orthonormal
from stages.rendering.cameras import elevations
from stages.shards import Sample

SIDE = 32
"""Pixels a side that silhouettes are reduced to; a pixel of tolerance is then about .06 of the unit box."""
DEPTHS = 96
PIXELS = 48
"""Object pixels tried in each view."""
AGREE = 0.97
"""Share of rays that meet the hull. Right cameras reach .99 and more; silhouettes are only known to the pixel."""


@dataclass(frozen=True)
class Problem:
    """What does not fit together in one sample."""

    id: str
    found: str


def validate(sample: Sample) -> Iterator[Problem]:
    """The problems of one sample; none when cameras, views and facts agree."""
    cameras, count = sample.cameras, len(sample.views)
    if len(cameras.pose) != count:
        yield Problem(sample.id, f"{count} views, but {len(cameras.pose)} cameras")
        return
    if not torch.isfinite(cameras.numbers()).all():
        yield Problem(sample.id, "cameras hold numbers that are not finite")
        return
    rotation = cameras.pose[:, :3, :3].double()
    off = torch.maximum(off_orthonormal(rotation), (torch.linalg.det(rotation) - 1).abs())
    if (worst := int(off.argmax())) >= 0 and off[worst] > 1e-4:
        yield Problem(sample.id, f"the pose of view {worst} is no rotation (off by {off[worst]:.2g})")
        return
    told = sample.meta.get("elevation")
    if told is not None and not isinstance(told, int | float):
        yield Problem(sample.id, f"says elevation {str(told)[:40]!r}, which is no number")
    elif told is not None and not (wrong := float(np.abs(elevations(cameras) - float(told)).max())) <= 0.1:
        yield Problem(sample.id, f"says elevation {told:.1f}, its cameras stand up to {wrong:.1f} degrees off")
    alpha = torch.from_numpy(sample.views[..., 3].copy())
    for view, share in enumerate(agreement(alpha, cameras).tolist()):
        if share < AGREE:
            words = f"only {share:.0%} of the rays of view {view} meet what the other views show"
            yield Problem(sample.id, f"{words}: camera and picture do not belong together")


def agreement(alpha: UInt8[Tensor, "v s s"], cameras: Camera) -> Float[Tensor, " v"]:
    """For each view the share of its object pixels whose rays meet the visual hull of all views; 1 with no pixel."""
    masks = F.adaptive_max_pool2d(alpha.float()[:, None], min(SIDE, alpha.shape[-1]))
    side = masks.shape[-1]
    # what is thin may cover half a pixel here and a tenth there; a pixel more of tolerance
    wide = F.max_pool2d((masks > 0).float(), 3, 1, 1)
    shares = torch.ones(len(alpha))
    for view, mask in enumerate(masks[:, 0]):
        pixels = (mask > 127).flatten().nonzero()[:, 0]
        if not len(pixels):
            continue
        pixels = pixels[torch.linspace(0, len(pixels) - 1, min(PIXELS, len(pixels))).round().long()]
        origins, directions = cameras[view].rays(side)
        along = origins.norm(dim=-1).max() + torch.linspace(-1, 1, DEPTHS)
        points = origins[pixels, None] + along[:, None] * directions[pixels, None]  # [pixels, depths, 3]
        uv = cameras.project(points.flatten(0, 1))[..., :2] * 2 - 1  # [views, points, 2]
        seen = F.grid_sample(wide, uv[:, None], mode="nearest", align_corners=False)[:, 0, 0] > 0
        # what lies outside another view's picture is not against it
        inside = seen | (uv.abs() > 1).any(-1)
        shares[view] = inside.all(0).view(len(pixels), DEPTHS).any(1).float().mean()
    return shares
