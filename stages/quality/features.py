"""Embeddings of views by a frozen image encoder, and what they say about a clip.

`load_embedder(config, folder)` reads the encoder of `base_models`, or an open_clip checkpoint laid beside it.
"""

from __future__ import annotations

from collections.abc import Callable
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
from stages.quality.config import FeaturesConfig

Embedder = Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n d"]]
"""One vector a view, from RGB on white in 0..1."""

OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"


def load_embedder(config: FeaturesConfig, folder: Path) -> Embedder:
    """The frozen encoder in `folder`. Raises FileNotFoundError when the weights that `config` names are missing."""
    return _open_clip(config, folder) if config.backbone == "open_clip" else _dinov2(folder)


def _dinov2(folder: Path) -> Embedder:
    encoder = load(folder, EncoderConfig, Encoder).requires_grad_(False)

    def embed(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        with torch.no_grad():
            return summary(encoder(images))

    return embed


def _open_clip(config: FeaturesConfig, folder: Path) -> Embedder:
    import open_clip  # seconds to import, and only where it is used

    weights = folder / OPEN_CLIP_WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is missing: put the {config.open_clip_model} weights there or set features.backbone: dinov2"
        )
    model: Any = open_clip.create_model_and_transforms(config.open_clip_model, pretrained=str(weights))[0]
    model.eval().requires_grad_(False)
    size: Any = model.visual.image_size  # a number or a pair
    size = list(size) if isinstance(size, tuple) else [size, size]
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]

    def embed(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        with torch.no_grad():
            return model.encode_image((images - mean) / std, normalize=True)

    return embed


def embed_clips(embedder: Embedder, clips: list[Float[np.ndarray, "v 3 h w"]]) -> list[Float[np.ndarray, "v d"]]:
    """The embeddings of all views of some clips, which may differ in length, in one batch."""
    if not clips:
        return []
    vectors = embedder(torch.from_numpy(np.concatenate(clips))).numpy()
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
