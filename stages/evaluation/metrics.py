"""How good a reconstruction is: by its views, by what networks see in them, by its surface, by what it took.

A figure is a number, or a text: the reason why there is none. Numbers are those of torchmetrics, open_clip, scipy and
trimesh; see METRICS for units and directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, thread_time
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_jaccard_index
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from models.checkpoints import WEIGHTS, load
from models.config import EncoderConfig
from models.encoder import Encoder
from models.perceptual import Distance, TokenDistance
from stages.config import WeightsConfig
from stages.evaluation.config import JudgesConfig
from stages.evaluation.geometry import Surface, compared
from stages.hashing import file_md5
from stages.perceptual import lpips
from stages.quality.config import FeaturesConfig
from stages.quality.features import Embed, Embedder, ImageText, load_embedder

T = TypeVar("T")
Figure = float | str


class Metric(NamedTuple):
    unit: str
    high_is_good: bool


METRICS = {
    "psnr": Metric("dB", True),
    "foreground_psnr": Metric("dB", True),
    "iou": Metric("IoU", True),
    "ssim": Metric("SSIM", True),
    "lpips": Metric("distance", False),
    "feature_distance": Metric("distance", False),
    "clip_image": Metric("cosine", True),
    "clip_text": Metric("cosine", True),
    "dino": Metric("cosine", True),
    "encoder_similarity": Metric("cosine", True),
    "chamfer": Metric("length", False),
    "f_score": Metric("F", True),
    "normal_consistency": Metric("cosine", True),
    "seconds": Metric("s", False),
    "memory": Metric("MiB", False),
}
"""psnr, foreground_psnr, iou, ssim, lpips or feature_distance: target views against true ones, errors pooled over the
views of an object. clip_image, dino, encoder_similarity: each target view against the input picture; clip_text: against
the caption; means over views. chamfer, f_score, normal_consistency: see stages/evaluation/geometry.py. seconds: from
the input to the surface, of CPU (on CUDA: on the clock). memory: the largest that the process (on CUDA: the device)
held meanwhile."""

COST = ("seconds", "memory")
SURFACE = ("chamfer", "f_score", "normal_consistency")
FINEST = 120.0
"""Decibels that are told of views without an error."""
_WINDOW = 11  # pixels a side of SSIM's Gaussian window
_AT_ONCE = 64  # views that a network sees together


@dataclass(frozen=True)
class Views:
    """RGB on white and coverage, 0..1; coverage is None where a picture has no alpha."""

    rgb: Float[Tensor, "v 3 s s"]
    alpha: Float[Tensor, "v s s"] | None


@dataclass(frozen=True)
class Judges:
    """Frozen networks, or the reason why one is missing. `weights` says which, for the protocol's hash."""

    distance_name: str
    distance: Distance | str
    encoder: Embed
    clip: ImageText | str
    dino: Embed | str
    side: int = 32
    weights: dict[str, str] = field(default_factory=dict)


def load_judges(config: JudgesConfig, encoder: Path) -> Judges:
    """The networks that the config names, and the base encoder in the folder `encoder`.

    Named weights that are missing or broken become the reason of their metrics; they stop nothing. Raises
    FileNotFoundError without a base encoder.
    """
    base = load(encoder, EncoderConfig, Encoder)
    weights = {"encoder": file_md5(encoder / WEIGHTS)}
    embed = load_embedder(FeaturesConfig.model_validate({}), encoder).dino

    def tried(name: str, load_it: Callable[[], T]) -> T | str:
        named = getattr(config, name)
        if named is None:
            return f"no weights: evaluation.judges.{name} names none"
        try:
            found = load_it()
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            return f"no weights: {' '.join(str(error).split())}"
        weights[name] = named.md5
        return found

    def published(**named: WeightsConfig | None) -> Embedder:
        return load_embedder(FeaturesConfig.model_validate(named), encoder)

    # numbers of two kinds under one name would mislead: where LPIPS is asked for, nothing stands in for it
    named = config.lpips
    return Judges(
        "lpips" if named else "feature_distance",
        tried("lpips", lambda: lpips(named)) if named else TokenDistance(base),
        embed,
        tried("clip", lambda: cast(ImageText, published(clip=config.clip).clip)),
        tried("dino", lambda: published(dino=config.dino).dino),
        base.config.image_size,
        weights,
    )


@torch.no_grad()
def view_figures(made: Views, truth: Views, judges: Judges) -> dict[str, Figure]:
    """Of all views of one object together. Foreground is where truth or prediction shows an object, so that background
    neither helps nor hides."""
    assert truth.alpha is not None
    found: dict[str, Figure] = {"psnr": _decibel(made.rgb, truth.rgb)}
    solid = truth.alpha > 0.5
    if made.alpha is None:
        found |= dict.fromkeys(("foreground_psnr", "iou"), "the views have no alpha")
    else:
        seen = made.alpha > 0.5
        either = solid | seen
        if either.any():
            mine, true = made.rgb.movedim(1, -1)[either], truth.rgb.movedim(1, -1)[either]
            found["foreground_psnr"] = _decibel(mine, true)
            found["iou"] = float(binary_jaccard_index(seen.int(), solid.int()))
        else:
            found |= dict.fromkeys(("foreground_psnr", "iou"), "neither truth nor views show anything")
    side = truth.rgb.shape[-1]
    if side < _WINDOW:
        found["ssim"] = f"views of {side} px are smaller than SSIM's window of {_WINDOW}"
    else:
        found["ssim"] = float(structural_similarity_index_measure(made.rgb, truth.rgb, data_range=1.0))  # pyright: ignore
    distance = judges.distance
    try:
        pairs = zip(made.rgb.split(_AT_ONCE), truth.rgb.split(_AT_ONCE), strict=True)
        found[judges.distance_name] = (
            distance if isinstance(distance, str) else float(torch.cat([distance(*pair) for pair in pairs]).mean())
        )
    except (RuntimeError, ValueError) as error:  # LPIPS asks for 16 pixels or more
        found[judges.distance_name] = f"{judges.distance_name} of {side} px: {' '.join(str(error).split())[:120]}"
    return {name: _finite(value) for name, value in found.items()}


@torch.no_grad()
def likeness_figures(
    rgb: Float[Tensor, "v 3 s s"], picture: Float[Tensor, "3 h w"], caption: str, judges: Judges
) -> dict[str, Figure]:
    """What networks see in the views: cosines with the input picture, and with the caption."""
    found: dict[str, Figure] = {}
    clip, dino = judges.clip, judges.dino
    if isinstance(clip, str):
        found |= {"clip_image": clip, "clip_text": clip}
    else:
        views = _embedded(clip.images, rgb)
        found["clip_image"] = _cosine(views, clip.images(picture[None]))
        found["clip_text"] = _cosine(views, clip.texts([caption])) if caption else "no caption"
    found["dino"] = dino if isinstance(dino, str) else _cosine(_embedded(dino, rgb), dino(picture[None]))
    views, own = resized(rgb, judges.side), resized(picture[None], judges.side)
    found["encoder_similarity"] = _cosine(_embedded(judges.encoder, views), judges.encoder(own))
    return {name: _finite(value) for name, value in found.items()}


def surface_figures(made: Surface | str, truth: Surface | str) -> dict[str, Figure]:
    for side in (made, truth):
        if isinstance(side, str):
            return dict.fromkeys(SURFACE, side)
    assert not isinstance(made, str)
    assert not isinstance(truth, str)
    return {name: _finite(value) for name, value in compared(made, truth).items()}


def resized(images: Float[Tensor, "n 3 h w"], side: int) -> Float[Tensor, "n 3 s s"]:
    """Larger images made as small as a network sees them, without aliasing; smaller ones stay."""
    if images.shape[-1] <= side:
        return images
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


class Cost(NamedTuple):
    seconds: float
    memory: Figure


@contextmanager
def measured(device: torch.device) -> Iterator[Callable[[], Cost]]:
    """What the block took: call what is yielded, in it or after."""
    cuda = device.type == "cuda"
    resettable = True
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    else:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        except OSError:
            resettable = False
    clock = perf_counter if cuda else thread_time  # machines are busy, and so are other threads
    start = clock()

    def cost() -> Cost:
        if cuda:
            torch.cuda.synchronize(device)
        seconds = clock() - start
        if cuda:
            return Cost(seconds, torch.cuda.max_memory_allocated(device) / 2**20)
        return Cost(seconds, _resident_peak() if resettable else "this system tells no peak of memory")

    yield cost


def _resident_peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _decibel(made: Tensor, truth: Tensor) -> float:
    return min(float(peak_signal_noise_ratio(made, truth, data_range=1.0)), FINEST)


def _embedded(embed: Embed, rgb: Float[Tensor, "v 3 s s"]) -> Float[Tensor, "v d"]:
    return torch.cat([embed(part) for part in rgb.split(_AT_ONCE)])


def _cosine(views: Float[Tensor, "v d"], one: Float[Tensor, "1 d"]) -> float:
    return float(F.cosine_similarity(views, one).mean())


def _finite(value: Figure) -> Figure:
    return value if isinstance(value, str) or math.isfinite(value) else f"not finite: {value}"
