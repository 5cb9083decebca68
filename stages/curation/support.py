"""How much of a view do the other views of its pool confirm, seen by the cameras that were asked for?

Matches with the front are few for every side view, spoiled or not: the front does not see that side. Here every view is
a witness for every other. A pixel of a view is confirmed when some point on its ray lies inside the silhouettes of the
others and shows the pixel's colour to its neighbours: a match that is looked for where geometry allows one alone.
Witnesses may be spoiled themselves, so each has a trust: it starts at the queries, and in each round it follows from
the support that the view found in the round before.

What most views agree on is taken for true: a back that is invented alike in all of them finds support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int16
from torch import Tensor
from torch.nn import functional as F

from models.camera import Camera
from stages.curation.config import SupportConfig
from stages.curation.placing import SAME, angles_between
from stages.quality.masks import foreground

SIDE = 32
"""Views are compared at most at this size, as silhouettes of clips are carved: more pixels cost more and say little."""
SAMPLES = 24
"""Points on a ray."""
WHITENESS = 0.08
"""How far from white the background may be, as for the masks of clips."""
SLACK = 0.03
"""By how much less than the best point of a ray the silhouettes may hold a point whose colour is asked for."""


@dataclass(frozen=True)
class Support:
    """`share` is, for each view, the share 0..1 of what it and the others show together that they agree on; `pixels` is
    how many pixels that are, at the size of comparison; `trust` the trust, 0..1, that the last round began with."""

    share: Float[np.ndarray, " n"]
    pixels: Float[np.ndarray, " n"]
    trust: Float[np.ndarray, " n"]


def support(
    views: Float[Tensor, "n 3 s s"],
    cameras: Camera,
    given: Bool[np.ndarray, " n"],
    queries: Bool[np.ndarray, " n"],
    config: SupportConfig,
) -> Support:
    """`given` views are true, whatever the others say; `queries` are trusted in the first round.

    A view without a witness from another camera keeps a share of 1: nothing speaks against it.
    """
    side = min(SIDE, views.shape[-1])
    mask, colours = _reduced(views, side)
    angles = angles_between(cameras).numpy()
    apart = angles > SAME
    near = np.where(apart, np.exp(-((angles / config.reach) ** 2)), 0.0)
    places = _places(*_numbers(cameras), side, SAMPLES, _radius(cameras))
    numbers = (mask, colours, places, near, apart, config.carved, config.colour)
    trust = np.where(queries | given, 1.0, 0.5)
    share, pixels = _confirmed(trust, *numbers)
    for _ in range(config.rounds - 1):
        trust = np.where(given, 1.0, _trusted(share, config.contrast))
        share, pixels = _confirmed(trust, *numbers)
    return Support(share, pixels, trust)


def _trusted(share: Float[np.ndarray, " n"], contrast: float) -> Float[np.ndarray, " n"]:
    """Above a half for views that find more support than their pool on average."""
    return 1 / (1 + np.exp(-contrast * (share - share.mean()) / max(share.std(), 1e-6)))


def _reduced(
    views: Float[Tensor, "n 3 s s"], side: int
) -> tuple[Bool[np.ndarray, "n pixels_and_one"], Float[np.ndarray, "n pixels_and_one 3"]]:
    """Silhouettes and colours, with a last pixel that is never inside: what lies outside the picture."""
    mask = torch.from_numpy(foreground(views.numpy(), WHITENESS)).float()[:, None]
    inside = F.adaptive_avg_pool2d(mask, side).flatten(1) > 0.5
    colours = F.adaptive_avg_pool2d(views, side).flatten(2).transpose(1, 2)
    return F.pad(inside, (0, 1)).numpy(), F.pad(colours, (0, 0, 0, 1)).numpy()


def _numbers(cameras: Camera) -> tuple[Float[np.ndarray, "n 4 4"], Float[np.ndarray, "n 4"]]:
    return cameras.pose.double().numpy(), cameras.intrinsics.double().numpy()


def _radius(cameras: Camera) -> float:
    """Of the sphere about the origin that nearly fills every view."""
    away = cameras.pose[:, :3, 3].norm(dim=-1)
    return float((0.85 * 0.5 * away / cameras.intrinsics[:, :2].amax(-1)).min())


@numba.njit(cache=True, nogil=True)
def _places(
    pose: Any, intrinsics: Any, side: int, samples: int, radius: float
) -> Int16[np.ndarray, "n n pixels samples"]:
    """Where each other view sees the points on the rays of a view, as pixel numbers; outside of the picture or of the
    sphere of `radius` the number after the last pixel's."""
    count, pixels = len(pose), side * side
    places = np.full((count, count, pixels, samples), pixels, dtype=np.int16)
    point = np.empty(3)
    for i in range(count):
        origin = pose[i, :3, 3]
        middle = np.sqrt((origin**2).sum())
        for pixel in range(pixels):
            x = ((pixel % side + 0.5) / side - intrinsics[i, 2]) / intrinsics[i, 0]
            y = ((pixel // side + 0.5) / side - intrinsics[i, 3]) / intrinsics[i, 1]
            length = np.sqrt(x * x + y * y + 1)
            for sample in range(samples):
                along = middle - radius + 2 * radius * sample / (samples - 1)
                for axis in range(3):
                    ray = (pose[i, axis, 0] * x - pose[i, axis, 1] * y - pose[i, axis, 2]) / length
                    point[axis] = origin[axis] + along * ray
                if (point**2).sum() > radius * radius:
                    continue
                for j in range(count):
                    right, up, back = 0.0, 0.0, 0.0
                    for axis in range(3):
                        step = point[axis] - pose[j, axis, 3]
                        right += step * pose[j, axis, 0]
                        up += step * pose[j, axis, 1]
                        back += step * pose[j, axis, 2]
                    if back > -1e-6:  # behind the camera
                        continue
                    u = int(np.floor((intrinsics[j, 2] - intrinsics[j, 0] * right / back) * side))
                    v = int(np.floor((intrinsics[j, 3] + intrinsics[j, 1] * up / back) * side))
                    if 0 <= u < side and 0 <= v < side:
                        places[i, j, pixel, sample] = v * side + u
    return places


@numba.njit(cache=True, nogil=True)
def _confirmed(trust, mask, colours, places, near, apart, carved, cap):
    """The share of each view that is confirmed, and its pixels, see `support`."""
    count, pixels, samples = len(mask), mask.shape[1] - 1, places.shape[3]
    share, number = np.ones(count), np.zeros(count)
    held = np.empty(samples)
    for i in range(count):
        whole = (trust * apart[i]).sum()
        confirmed, together = 0.0, 0.0
        for pixel in range(pixels):
            if whole == 0:
                confirmed += mask[i, pixel]
                together += mask[i, pixel]
                continue
            best = 0.0
            for sample in range(samples):  # how much of the witnesses' trust has the point inside its silhouettes
                held[sample] = 0.0
                if places[i, i, pixel, sample] == pixels:
                    continue
                for j in range(count):
                    if apart[i, j] and mask[j, places[i, j, pixel, sample]]:
                        held[sample] += trust[j] / whole
                best = max(best, held[sample])
            solid = max(0.0, (best - carved) / (1 - carved))
            if not mask[i, pixel]:
                together += solid  # the others say that the object is seen here
                continue
            together += 1.0
            if solid == 0:
                continue
            least = cap
            for sample in range(samples):
                if held[sample] >= best - SLACK:
                    least = min(least, _difference(i, pixel, sample, trust, mask, colours, places, near, cap))
            confirmed += solid * (1 - least / cap)
        if together > 0:
            share[i] = confirmed / together
        number[i] = confirmed
    return share, number


@numba.njit(cache=True, nogil=True)
def _difference(i, pixel, sample, trust, mask, colours, places, near, cap):
    """How far the neighbours, by nearness and trust, show another colour at a point of a ray; 0 to cap."""
    total, weights = 0.0, 1e-9
    for j in range(len(mask)):
        weight = trust[j] * near[i, j]
        if weight <= 0:
            continue
        place = places[i, j, pixel, sample]
        apart = cap
        if mask[j, place]:
            squared = 0.0
            for channel in range(3):
                squared += (colours[i, pixel, channel] - colours[j, place, channel]) ** 2
            apart = min(np.sqrt(squared), cap)
        total += weight * apart
        weights += weight
    return total / weights
