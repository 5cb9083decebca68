"""How well the judge tells spoiled clips from clean ones, of objects and of kinds that it was not taught."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from stages.quality.classifier import fit_judge
from stages.quality.config import LabelsConfig, QualityConfig
from stages.quality.features import load_embedder
from stages.quality.judged import BAD, GOOD, UNSURE, read_judged
from stages.quality.observe import observe
from stages.quality.spoil import UNSEEN, test_clips


@dataclass(frozen=True)
class Trial:
    """Areas under the ROC curve: of all spoiled clips against all clean ones, and by kind when the labels of that
    kind were left out of training. `clean` and `spoiled` count clips."""

    roc_auc: float
    without: dict[str, float]
    clean: int
    spoiled: int


def trial(
    labels: Path, encoder: Path, objects: pl.DataFrame, meshes: Path, config: QualityConfig, *, seed: int
) -> Trial:
    """Train on the labels, test on clips of `objects`, which must be of another split than the labels' objects."""
    embedder = load_embedder(config.features, encoder)
    judged = [(row, sample) for row, sample in read_judged(labels) if row["verdict"] != UNSURE]
    seen = observe(embedder, [sample for _, sample in judged], config)
    good = np.array([row["verdict"] == GOOD for row, _ in judged])
    taught = np.array([row["who"].removeprefix("spoiled:") if row["verdict"] == BAD else GOOD for row, _ in judged])
    clips = list(test_clips(objects, meshes, LabelsConfig.model_validate({}), seed=seed, clean=4))
    kinds = np.array([kind for kind, _ in clips])
    shown = observe(embedder, [sample for _, sample in clips], config)

    def scores(keep: np.ndarray) -> np.ndarray:
        chosen = [observation for observation, kept in zip(seen, keep, strict=True) if kept]
        return fit_judge(chosen, good[keep], config.classifier).margins(shown)

    whole = scores(np.ones(len(good), dtype=bool))
    without = {}
    for kind in sorted({*kinds} - {GOOD}):
        margins = whole if kind in UNSEEN else scores(taught != kind)
        part = (kinds == kind) | (kinds == GOOD)
        without[kind] = float(roc_auc_score(kinds[part] == GOOD, margins[part]))
    clean = kinds == GOOD
    return Trial(float(roc_auc_score(clean, whole)), without, int(clean.sum()), int((~clean).sum()))
