"""May the back of the orbit be a query beside the front? The quality classifier decides, with the back view in mind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.candidates.pool import Pool
from stages.curation.config import BackConfig
from stages.quality.classifier import Classifier, load_classifier
from stages.quality.config import QualityConfig
from stages.quality.features import Embedder, load_embedder
from stages.quality.observe import Observation, observe
from stages.quality.statistics import measure
from stages.shards import Sample


@dataclass(frozen=True)
class Back:
    """`score` is the classifier's of the whole clip, `overlap` the IoU of the back's silhouette with the front's,
    mirrored, `sharpness` the strength of its edges over the front's; null where there is no clip."""

    passed: bool
    reason: str
    score: float | None = None
    overlap: float | None = None
    sharpness: float | None = None


@dataclass(frozen=True)
class BackJudge:
    """The classifier knows clips of `frames` views; orbits with more are thinned out."""

    embedder: Embedder
    classifier: Classifier
    config: BackConfig
    quality: QualityConfig

    def __call__(self, pool: Pool) -> Back:
        """Fail: front only. Raises ValueError when the classifier was trained on other features."""
        frames = self.quality.elevation.views
        step = max(1, len(pool.clip) // frames)
        places = pool.clip[::step]
        if len(places) < 2:
            return Back(False, f"no orbit: its clip has {len(pool.clip)} views")
        views = pool.sample().views[list(places)]
        seen = observe(self.embedder, [Sample(pool.id, views, {**pool.meta, "cameras": []})], self.quality)
        score = float(self.classifier.scores(seen)[0])
        overlap, sharpness = self._held(pool, seen[0])
        least = self.classifier.config.threshold if self.config.threshold is None else self.config.threshold
        faults = [
            f"{name} {value:.3f}, {wanted:.3f} wanted"
            for name, value, wanted in (
                ("score of the clip", score, least),
                ("overlap with the front, mirrored,", overlap, self.config.overlap),
                ("sharpness over the front's", sharpness, self.config.sharpness),
            )
            if value < wanted
        ]
        return Back(not faults, "; ".join(faults) or "the clip is good and its back holds", score, overlap, sharpness)

    def _held(self, pool: Pool, seen: Observation) -> tuple[float, float]:
        """The clip's own statistics, of front and back alone: two views, of which the second is the opposite one."""
        step = max(1, len(pool.clip) // self.quality.elevation.views)
        middle = (len(pool.clip) // 2) // step
        pair = pool.views[[pool.front, pool.clip[middle * step]]].numpy()
        told = measure(pair, seen.mask[[0, middle]])
        return told["opposite"], told["sharp_fall"]


def load_back_judge(classifier: Path, encoder: Path, config: BackConfig, quality: QualityConfig) -> BackJudge:
    return BackJudge(load_embedder(quality.features, encoder), load_classifier(classifier), config, quality)
