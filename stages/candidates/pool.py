"""A pool of candidate views of one object (Flex3D): some by the multi-view image model, an orbit by the video model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from stages.shards import Sample, composite

IMAGE, VIDEO = "image", "video"
"""Which model made a view."""


@dataclass(frozen=True)
class Pool:
    """Views are RGB on white in 0..1, each seen by the camera that it was asked for; z is up.

    `sources` says which model made each view. `clip` are the places of the orbit's views, once around; the first of
    them, `front`, shows what the image model's view of that elevation shows: the one view that both models share.
    `meta` is what the shard knows of the object: caption, licence, creator, seed, parents.
    """

    id: str
    views: Float[Tensor, "n 3 s s"]
    cameras: Camera
    sources: tuple[str, ...]
    clip: tuple[int, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def front(self) -> int:
        return self.clip[0]

    @property
    def back(self) -> int:
        """The view of the orbit that looks from behind."""
        return self.clip[len(self.clip) // 2]

    def sample(self) -> Sample:
        """As shards store it."""
        frames = (self.views.movedim(1, -1) * 255 + 0.5).to(torch.uint8).numpy()
        opaque = np.full((*frames.shape[:-1], 1), 255, dtype=np.uint8)
        meta = {
            **self.meta,
            "cameras": self.cameras.numbers().tolist(),
            "sources": list(self.sources),
            "clip": list(self.clip),
        }
        return Sample(self.id, np.concatenate((frames, opaque), -1), meta)

    @staticmethod
    def of(sample: Sample) -> Pool:
        """The pool that a shard stores. Raises ValueError for a sample that is none."""
        meta = dict(sample.meta)
        if not {"sources", "clip"} <= meta.keys():
            raise ValueError(f"{sample.id} is no pool of candidate views: it says neither sources nor clip")
        sources, clip = tuple(meta.pop("sources")), tuple(meta.pop("clip"))
        meta.pop("cameras")
        views = torch.from_numpy(composite(sample.views))
        return Pool(sample.id, views, sample.cameras, sources, clip, meta)
