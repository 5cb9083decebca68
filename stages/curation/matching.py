"""Matchers: points that two views share.

    load_matcher(config, encoder) -> match;  match(views, query) -> one `Matches` a view

`encoder` is the encoder's folder of base_models; only tokens are made with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.curation.config import MatcherConfig
from stages.errors import InputError
from stages.quality.masks import foreground
from stages.weights import find_weights

WHITENESS = 0.08
"""How far from white the background may be, as for the masks of clips."""
TEMPERATURE = 0.1
"""Of the double softmax over cosines of tokens, as LoFTR has it."""
RATIO = 0.8
"""A SIFT match is this much nearer than the second nearest (Lowe)."""
LOFTR_WEIGHTS = "loftr.safetensors"


@dataclass(frozen=True)
class Matches:
    """Points (u, v) in image sizes, u to the right and v down, of a view and of the query, and how sure each is."""

    view: Float[Tensor, "m 2"]
    query: Float[Tensor, "m 2"]
    confidence: Float[Tensor, " m"]

    def __len__(self) -> int:
        return len(self.confidence)


Describe = Callable[[Float[Tensor, "n 3 s s"]], Any]
Match = Callable[[Any, int], list[Matches]]


@dataclass(frozen=True)
class Matcher:
    """In two steps, so that what is seen in a view is computed once, however many queries there are: `match` takes what
    `describe` said of all views and the place of the query."""

    describe: Describe
    match: Match


def load_matcher(config: MatcherConfig, encoder: Path) -> Matcher:
    """Raises FileNotFoundError or InputError when weights are missing or others than the preset names."""
    if config.kind == "tokens":
        return _tokens(load(encoder, EncoderConfig, Encoder), config)
    return _sift(config) if config.kind == "sift" else _loftr(config)


def _tokens(encoder: Encoder, config: MatcherConfig) -> Matcher:
    """Mutual nearest neighbours among the patch tokens that show the object."""
    patch, layers = encoder.config.patch, encoder.config.layers
    if config.size % patch or config.layer >= layers:
        raise InputError(
            f"curation.matcher: size {config.size} and layer {config.layer} do not fit an encoder of {layers} layers "
            f"and patches of {patch}; choose a multiple of {patch} and a layer below {layers}"
        )
    encoder.config = encoder.config.model_copy(update={"image_size": config.size})  # positions are interpolated
    encoder.eval().requires_grad_(False)
    side = config.size // patch
    steps = (torch.arange(side) + 0.5) / side
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.stack((u.flatten(), v.flatten()), 1)

    def describe(views: Float[Tensor, "n 3 s s"]) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
        with torch.inference_mode():
            tokens = encoder.layers(views)[config.layer][:, 1:]
        covered = F.adaptive_avg_pool2d(torch.from_numpy(foreground(views.numpy(), WHITENESS)).float()[:, None], side)
        inside = covered.flatten(1) > 0.5
        common = (tokens * inside[..., None]).sum((0, 1)) / inside.sum().clamp(min=1)
        return F.normalize(tokens - common, dim=-1), inside

    def match(described: tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]], query: int) -> list[Matches]:
        tokens, inside = described
        mine, asked = tokens[query][inside[query]], places[inside[query]]
        return [_mutual(t[i] @ mine.T, places[i], asked, config.least) for t, i in zip(tokens, inside, strict=True)]

    return Matcher(describe, match)


def _mutual(
    cosines: Float[Tensor, "a b"], view: Float[Tensor, "a 2"], query: Float[Tensor, "b 2"], least: float
) -> Matches:
    """Pairs that choose each other, by the product of the softmax over rows and over columns."""
    if not cosines.numel():
        return _none()
    sure = (cosines / TEMPERATURE).softmax(0) * (cosines / TEMPERATURE).softmax(1)
    best = sure.argmax(1)
    own = torch.arange(len(best))
    kept = (sure.argmax(0)[best] == own) & (sure[own, best] >= least)
    return Matches(view[kept], query[best[kept]], sure[own, best][kept])


def _none() -> Matches:
    return Matches(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))


def _sift(config: MatcherConfig) -> Matcher:
    """Lowe's keypoints by scikit-image, on enlarged pictures; a match is mutual and unlike the second best."""
    from skimage.feature import SIFT, match_descriptors

    def described(picture: Float[np.ndarray, "s s"]) -> tuple[np.ndarray, np.ndarray] | None:
        machine: Any = SIFT(upsampling=1)
        try:
            machine.detect_and_extract(picture)
        except RuntimeError:  # it found no keypoint
            return None
        return (machine.keypoints[:, ::-1] + 0.5) / config.size, machine.descriptors

    def describe(views: Float[Tensor, "n 3 s s"]) -> list[tuple[np.ndarray, np.ndarray] | None]:
        return [described(picture) for picture in _grey(views, config.size)[:, 0].numpy()]

    def match(described: list[tuple[np.ndarray, np.ndarray] | None], query: int) -> list[Matches]:
        asked = described[query]
        return [_pairs(view, asked) if view and asked else _none() for view in described]

    def _pairs(view: tuple[np.ndarray, np.ndarray], query: tuple[np.ndarray, np.ndarray]) -> Matches:
        pairs = match_descriptors(view[1], query[1], cross_check=True, max_ratio=RATIO)
        a, b = (torch.from_numpy(points[0][pairs[:, k]]).float() for k, points in enumerate((view, query)))
        return Matches(a, b, torch.ones(len(pairs)))

    return Matcher(describe, match)


def _loftr(config: MatcherConfig) -> Matcher:
    """kornia's LoFTR, weights from disk; never a download, never a pickle."""
    try:
        from kornia.feature import LoFTR
    except ImportError as error:
        raise InputError("curation.matcher: loftr needs kornia; install orbitforge[loftr]") from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if config.weights is None:
        raise InputError(
            "curation.matcher: loftr has no weights; name a .safetensors file of kornia's LoFTR and its md5"
        )
    path = find_weights(config.weights, LOFTR_WEIGHTS)
    machine: Any = LoFTR(pretrained=None)
    try:
        machine.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds no weights of kornia's LoFTR as safetensors ({str(error).splitlines()[0]}); write its "
            "state_dict with safetensors.torch.save_file"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine.to(device).eval().requires_grad_(False)

    def describe(views: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 1 s s"]:
        return _grey(views, config.size).to(device)

    def match(pictures: Float[Tensor, "n 1 s s"], query: int) -> list[Matches]:
        with torch.inference_mode():
            pairs = [machine({"image0": picture[None], "image1": pictures[query, None]}) for picture in pictures]
        found = []
        for pair in pairs:
            sure = pair["confidence"] >= config.least
            a, b = (((pair[name][sure] + 0.5) / config.size).cpu() for name in ("keypoints0", "keypoints1"))
            found.append(Matches(a, b, pair["confidence"][sure].cpu()))
        return found

    return Matcher(describe, match)


def _grey(views: Float[Tensor, "n 3 s s"], size: int) -> Float[Tensor, "n 1 t t"]:
    weights = views.new_tensor((0.299, 0.587, 0.114))[:, None, None]
    grey = (views * weights).sum(1, keepdim=True)
    return grey if grey.shape[-1] == size else F.interpolate(grey, (size, size), mode="bicubic").clamp(0, 1)
