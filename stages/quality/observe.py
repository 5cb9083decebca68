"""All that is known of a clip before it is judged: mask, measured statistics, embeddings of its views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from stages.quality.carving import carve, photometric
from stages.quality.carving import statistics as carved
from stages.quality.config import QualityConfig
from stages.quality.features import Embedder, agreement, embed_clips, likeness, pooled
from stages.quality.masks import foreground
from stages.quality.saliency import salient
from stages.quality.statistics import measure
from stages.shards import Sample, composite


@dataclass(frozen=True)
class Observation:
    """`views` is what the elevation estimator is told of each view; `embedding` mean and standard deviation over the
    views of DINO's vectors, then of open_clip's where there is one."""

    mask: Bool[np.ndarray, "v h w"]
    views: Float[np.ndarray, "v d"]
    embedding: Float[np.ndarray, " twice_d"]
    statistics: dict[str, float]


def observe(
    embedder: Embedder,
    clips: list[Sample],
    config: QualityConfig,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> list[Observation]:
    """Observe clips in batches that are cut at fixed places, so that a list always gives the same numbers. `report`
    hears how many are done."""
    observations: list[Observation] = []
    for start in range(0, len(clips), config.features.batch):
        batch = clips[start : start + config.features.batch]
        images = [composite(clip.views) for clip in batch]
        read = _read(embedder, images, [str(clip.meta.get("caption") or "") for clip in batch])
        for pixels, (mask, vectors, profile), (more, prompt) in zip(
            images, look(embedder, images, config), read, strict=True
        ):
            statistics = {
                **measure(pixels, mask),
                **carved(profile),
                **photometric(pixels, mask, profile, config.features),
                **agreement(vectors),
                **prompt,
            }
            embedding = np.concatenate((pooled(vectors), more))
            observations.append(Observation(mask, known(vectors, profile), embedding, statistics))
        report({"step": len(observations), "of": len(clips), "doing": "observing clips"})
    return observations


def look(
    embedder: Embedder, clips: list[Float[np.ndarray, "v 3 h w"]], config: QualityConfig
) -> list[tuple[Bool[np.ndarray, "v h w"], Float[np.ndarray, "v d"], Float[np.ndarray, " elevations"]]]:
    """Mask, DINO's embeddings and carving profile of clips given as RGB on white in 0..1, in one batch."""
    seen = []
    saliency = config.features.saliency
    for images, vectors in zip(clips, embed_clips(embedder.dino, clips), strict=True):
        mask = salient(images, saliency) if saliency else foreground(images, config.whiteness)
        seen.append((mask, vectors, carve(mask, config.features)))
    return seen


def known(
    vectors: Float[np.ndarray, "v d"], profile: Float[np.ndarray, " elevations"]
) -> Float[np.ndarray, "v d_and_elevations"]:
    """What the elevation estimator is told of each view: its embedding, and the carving profile of the clip."""
    return np.concatenate((vectors, np.tile(profile, (len(vectors), 1))), 1)


def _read(
    embedder: Embedder, clips: list[Float[np.ndarray, "v 3 h w"]], captions: list[str]
) -> list[tuple[Float[np.ndarray, " d"], dict[str, float]]]:
    """By open_clip: what each clip shows, pooled over its views, and how well that is what was asked for."""
    if not embedder.clip:
        return [(np.zeros(0, dtype=np.float32), {})] * len(clips)
    texts = embedder.clip.texts(captions).numpy()
    vectors = embed_clips(embedder.clip.images, clips)
    return [(pooled(views), likeness(views, text)) for views, text in zip(vectors, texts, strict=True)]
