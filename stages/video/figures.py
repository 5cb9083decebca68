"""Does a clip orbit, keep its first frame and its colours? Figures that blur alone cannot raise."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

OBJECT = 0.1
"""How much darker than white a pixel of an object is, 0..1."""


def clip_figures(clips: Float[Tensor, "n f 3 s s"], truth: Float[Tensor, "n f 3 s s"]) -> dict[str, float]:
    """Figures of generated orbits against the rendered ones that begin with the same frame (facts on CPU training).

    first_frame: PSNR of frame 0, decibel. pooled: PSNR of the pooled error of the other frames; repeated: the same
    for a clip that repeats its first frame. anti_cosine: cosine between the generated and the true time-antisymmetric
    change y(k) - y(f - k): 0 without knowledge of the direction of rotation, 1 perfect. chroma_slope: generated on
    true colour difference, over the pixels where either shows an object; 1 keeps colour, 0 is grey. iou: of the
    silhouettes of the later frames, where a pixel is darker than white in any channel by more than `OBJECT`.
    """
    frames = clips.shape[1]
    half = range(1, (frames + 1) // 2)
    change = [torch.stack([x[:, k] - x[:, frames - k] for k in half]) for x in (clips, truth)]
    chroma_clip, chroma_truth = (x - x.mean(2, keepdim=True) for x in (clips, truth))
    return {
        "first_frame": _psnr((clips - truth)[:, 0]),
        "pooled": _psnr((clips - truth)[:, 1:]),
        "repeated": _psnr((truth[:, :1] - truth)[:, 1:]),
        "anti_cosine": float((change[0] * change[1]).sum() / (change[0].norm() * change[1].norm()).clamp(min=1e-9)),
        "iou": _iou(clips[:, 1:], truth[:, 1:]),
        "chroma_slope": float((chroma_clip * chroma_truth).sum() / chroma_truth.square().sum().clamp(min=1e-9)),
    }


def _iou(clips: Float[Tensor, "n f 3 s s"], truth: Float[Tensor, "n f 3 s s"]) -> float:
    seen, wanted = (x.amin(2) < 1 - OBJECT for x in (clips, truth))
    return float((seen & wanted).sum() / (seen | wanted).sum().clamp(min=1))


def _psnr(error: Float[Tensor, ...]) -> float:
    return float(-10 * torch.log10(error.square().mean().clamp(min=1e-12)))
