"""All that is known of a clip before it is judged: mask, measured statistics, embeddings of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.quality.carving import carve
from stages.quality.carving import statistics as carved
from stages.quality.config import QualityConfig
from stages.quality.features import Embedder, agreement, embed_clips, pooled
from stages.quality.masks import foreground
from stages.quality.statistics import measure
from stages.shards import Sample, composite


@dataclass(frozen=True)
class Observation:
    """`views` holds what is known of each view (its embedding, the clip's carving profile), `embedding` mean and
    standard deviation of the embeddings."""

    mask: Bool[np.ndarray, "v h w"]
    views: Float[np.ndarray, "v d"]
    embedding: Float[np.ndarray, " twice_d"]
    statistics: dict[str, float]


def observe(embedder: Embedder, clips: list[Sample], config: QualityConfig) -> list[Observation]:
    """Observe clips in batches that are cut at fixed places, so that a list always gives the same numbers."""
    observations: list[Observation] = []
    for start in range(0, len(clips), config.features.batch):
        images = [composite(clip.views) for clip in clips[start : start + config.features.batch]]
        observations += observe_images(embedder, images, config)
    return observations


def observe_images(
    embedder: Embedder, clips: list[Float[np.ndarray, "v 3 h w"]], config: QualityConfig
) -> list[Observation]:
    """Observe clips given as RGB on white in 0..1, in one batch."""
    observations: list[Observation] = []
    for images, vectors in zip(clips, embed_clips(embedder, clips), strict=True):
        mask = foreground(images, config.whiteness)
        profile = carve(mask, config.features)
        statistics = {**measure(images, mask), **carved(profile), **agreement(vectors)}
        views = np.concatenate((vectors, np.tile(profile, (len(vectors), 1))), 1)
        observations.append(Observation(mask, views, pooled(vectors), statistics))
    return observations
