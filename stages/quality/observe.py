"""All that is known of a clip before it is judged: mask, measured statistics, embeddings of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.quality.config import QualityConfig
from stages.quality.features import Embedder, agreement, embed_clips, pooled
from stages.quality.masks import foreground
from stages.quality.statistics import measure
from stages.shards import Sample, composite


@dataclass(frozen=True)
class Observation:
    """`views` holds the embedding of each view, `embedding` their mean and standard deviation."""

    mask: Bool[np.ndarray, "v h w"]
    views: Float[np.ndarray, "v d"]
    embedding: Float[np.ndarray, " twice_d"]
    statistics: dict[str, float]


def observe(embedder: Embedder, clips: list[Sample], config: QualityConfig) -> list[Observation]:
    """Observe clips in batches that are cut at fixed places, so that a list always gives the same numbers."""
    observations: list[Observation] = []
    size = config.features.batch
    for start in range(0, len(clips), size):
        images = [composite(clip.views) for clip in clips[start : start + size]]
        for pixels, vectors in zip(images, embed_clips(embedder, images), strict=True):
            mask = foreground(pixels, config.whiteness)
            statistics = {**measure(pixels, mask), **agreement(vectors)}
            observations.append(Observation(mask, vectors, pooled(vectors), statistics))
    return observations
