"""Embeddings of views by frozen encoders, and what they say about a clip.

`load_embedder(config, folder)` reads the DINOv2 in `folder` (of `base_models`) or the one that the preset names, and
the open_clip model that it may name as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.base.images import summary
from stages.dinov2 import load_dinov2
from stages.errors import InputError
from stages.quality.config import ClipConfig, DinoConfig, FeaturesConfig
from stages.weights import find_weights

Embed = Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n d"]]
"""One vector a view, from RGB on white in 0..1."""

DINO_WEIGHTS = "model.safetensors"
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class ImageText:
    """An open_clip model: unit vectors of views and of captions, in one space."""

    images: Embed
    texts: Callable[[list[str]], Float[Tensor, "n d"]]


@dataclass(frozen=True)
class Embedder:
    """`dino` tells shapes and heights; `clip`, where there is one, what is to be seen."""

    dino: Embed
    clip: ImageText | None = None


def load_embedder(config: FeaturesConfig, folder: Path) -> Embedder:
    """The frozen encoders. Raises FileNotFoundError or InputError when weights that are named are missing."""
    dino = _published(config.dino) if config.dino else load(folder, EncoderConfig, Encoder)
    return Embedder(_embed(dino), _open_clip(config.clip) if config.clip else None)


def _embed(encoder: Encoder) -> Embed:
    encoder.requires_grad_(False)

    def embed(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        with torch.inference_mode():
            return summary(encoder(images))

    return embed


def _published(config: DinoConfig) -> Encoder:
    model, registers = load_dinov2(find_weights(config, DINO_WEIGHTS).parent)
    its = model.config
    encoder = Encoder(
        EncoderConfig(
            image_size=config.size,
            table_size=its.image_size,
            patch=its.patch_size,
            width=its.hidden_size,
            layers=its.num_hidden_layers,
            heads=its.num_attention_heads,
            registers=registers,
            normalise="imagenet",
            position_resize="size",
        )
    )
    encoder.model = model
    return encoder.eval()


def _open_clip(config: ClipConfig) -> ImageText:
    import open_clip  # seconds to import, and only where it is used

    weights = find_weights(config, OPEN_CLIP_WEIGHTS)
    if weights.suffix != ".safetensors":
        raise InputError(f"{weights} is no .safetensors file; convert it, pickles are not read")
    model: Any = open_clip.create_model(config.architecture, pretrained=str(weights))
    model.eval().requires_grad_(False)
    tokens: Any = open_clip.get_tokenizer(config.architecture)
    size: Any = model.visual.image_size  # a number or a pair
    size = list(size) if isinstance(size, tuple) else [size, size]
    mean, std = (
        torch.tensor(numbers)[:, None, None]
        for numbers in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )

    def images(views: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        views = F.interpolate(views, size, mode="bicubic", antialias=True).clamp(0, 1)
        with torch.inference_mode():
            return model.encode_image((views - mean) / std, normalize=True)

    def texts(captions: list[str]) -> Float[Tensor, "n d"]:
        with torch.inference_mode():
            return model.encode_text(tokens(captions), normalize=True)

    return ImageText(images, texts)


def embed_clips(embed: Embed, clips: list[Float[np.ndarray, "v 3 h w"]]) -> list[Float[np.ndarray, "v d"]]:
    """The embeddings of all views of some clips, which may differ in length, in one batch."""
    if not clips:
        return []
    vectors = embed(torch.from_numpy(np.concatenate(clips))).numpy()
    return np.split(vectors, np.cumsum([len(clip) for clip in clips])[:-1])


def pooled(vectors: Float[np.ndarray, "v d"]) -> Float[np.ndarray, " twice_d"]:
    """Mean and standard deviation over the views: what the clip shows, and how much it changes."""
    return np.concatenate((vectors.mean(0), vectors.std(0)))


def agreement(vectors: Float[np.ndarray, "v d"]) -> dict[str, float]:
    """Cosines between neighbouring and between opposite views, once around."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    near = (unit * np.roll(unit, -1, 0)).sum(1)
    far = (unit * np.roll(unit, -(len(unit) // 2), 0)).sum(1)
    return {
        "near_mean": float(near.mean()),
        "near_least": float(near.min()),
        "far_mean": float(far.mean()),
    }


def likeness(views: Float[np.ndarray, "v d"], caption: Float[np.ndarray, " d"]) -> dict[str, float]:
    """Cosines between the views and the caption, both unit vectors of one space: does the clip show what was asked?"""
    cosines = views @ caption
    return {"prompt_mean": float(cosines.mean()), "prompt_least": float(cosines.min())}
