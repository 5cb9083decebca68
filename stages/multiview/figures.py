"""Are generated views better than the picture itself, shown again at every elevation?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

OBJECT = 0.1
"""How much darker than white a pixel of an object is, 0..1."""


def view_figures(
    made: Float[Tensor, "n e 3 s s"],
    truth: Float[Tensor, "n e 3 s s"],
    own: Int64[Tensor, " n"],
    elevations: Sequence[float],
) -> dict[str, float]:
    """Of views made from `truth[:, own]`. own: PSNR of the view at the picture's own elevation, decibel. Of the other
    views: psnr, of the pooled error, and iou, of silhouettes; repeated and iou_repeated: the same of the picture in
    their place; each also by the view's elevation, `psnr/-18`, where there is such a picture.
    """
    rows = torch.arange(len(own))
    other = torch.ones(truth.shape[:2], dtype=torch.bool)
    other[rows, own] = False
    repeated = truth[rows, own][:, None].expand_as(truth)
    figures = {"own": _psnr(made[rows, own], truth[rows, own])} | _compared(made, repeated, truth, other)
    for number, elevation in enumerate(elevations):
        there = other & (torch.arange(len(elevations)) == number)
        if there.any():
            found = _compared(made, repeated, truth, there)
            figures |= {f"{name}/{elevation:g}": value for name, value in found.items()}
    return figures


def _compared(
    made: Float[Tensor, "n e 3 s s"],
    repeated: Float[Tensor, "n e 3 s s"],
    truth: Float[Tensor, "n e 3 s s"],
    chosen: Bool[Tensor, "n e"],
) -> dict[str, float]:
    made, repeated, truth = made[chosen], repeated[chosen], truth[chosen]
    return {
        "psnr": _psnr(made, truth),
        "repeated": _psnr(repeated, truth),
        "iou": _iou(made, truth),
        "iou_repeated": _iou(repeated, truth),
    }


def _psnr(made: Float[Tensor, "k 3 s s"], truth: Float[Tensor, "k 3 s s"]) -> float:
    return float(-10 * torch.log10((made - truth).square().mean().clamp(min=1e-12)))


def _iou(made: Float[Tensor, "k 3 s s"], truth: Float[Tensor, "k 3 s s"]) -> float:
    seen, wanted = (views.amin(1) < 1 - OBJECT for views in (made, truth))
    return float((seen & wanted).sum() / (seen | wanted).sum().clamp(min=1))
