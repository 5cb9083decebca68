"""All that is known of a clip before it is judged: mask, measured statistics, embeddings of its views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.quality.carving import carve, photometric
from stages.quality.carving import statistics as carved
from stages.quality.config import QualityConfig
from stages.quality.features import Embedder, agreement, embed_clips, pooled
from stages.quality.masks import foreground
from stages.quality.statistics import measure
from stages.shards import Sample, composite


@dataclass(frozen=True)
class Observation:
    """`views` is what the elevation estimator is told of each view, `embedding` mean and standard deviation of the
    embeddings."""

    mask: Bool[np.ndarray, "v h w"]
    views: Float[np.ndarray, "v d"]
    embedding: Float[np.ndarray, " twice_d"]
    statistics: dict[str, float]


def observe(embedder: Embedder, clips: list[Sample], config: QualityConfig) -> list[Observation]:
    """Observe clips in batches that are cut at fixed places, so that a list always gives the same numbers."""
    observations: list[Observation] = []
    for start in range(0, len(clips), config.features.batch):
        images = [composite(clip.views) for clip in clips[start : start + config.features.batch]]
        for pixels, (mask, vectors, profile) in zip(images, look(embedder, images, config), strict=True):
            statistics = {
                **measure(pixels, mask),
                **carved(profile),
                **photometric(pixels, mask, profile, config.features),
                **agreement(vectors),
            }
            observations.append(Observation(mask, known(vectors, profile), pooled(vectors), statistics))
    return observations


def look(
    embedder: Embedder, clips: list[Float[np.ndarray, "v 3 h w"]], config: QualityConfig
) -> list[tuple[Bool[np.ndarray, "v h w"], Float[np.ndarray, "v d"], Float[np.ndarray, " elevations"]]]:
    """Mask, embeddings and carving profile of clips given as RGB on white in 0..1, in one batch."""
    seen = []
    for images, vectors in zip(clips, embed_clips(embedder, clips), strict=True):
        mask = foreground(images, config.whiteness)
        seen.append((mask, vectors, carve(mask, config.features)))
    return seen


def known(
    vectors: Float[np.ndarray, "v d"], profile: Float[np.ndarray, " elevations"]
) -> Float[np.ndarray, "v d_and_elevations"]:
    """What the elevation estimator is told of each view: its embedding, and the carving profile of the clip."""
    return np.concatenate((vectors, np.tile(profile, (len(vectors), 1))), 1)
