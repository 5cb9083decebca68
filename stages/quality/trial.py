"""How well the judge tells spoiled clips from clean ones, of objects and of kinds that it was not taught."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from sklearn.metrics import roc_auc_score

from stages.quality.classifier import fit_judge
from stages.quality.config import LabelsConfig, QualityConfig
from stages.quality.elevation import load_elevation
from stages.quality.features import load_embedder
from stages.quality.judged import BAD, GOOD, UNSURE, read_judged
from stages.quality.observe import observe
from stages.quality.spoil import UNSEEN, trial_clips


@dataclass(frozen=True)
class Trial:
    """Areas under the ROC curve: of all spoiled clips against all clean ones, and by kind when the labels of that
    kind were left out of training. `clean` and `spoiled` count clips. `errors` are those of the estimated elevations
    of the clean ones, in degrees."""

    roc_auc: float
    without: dict[str, float]
    clean: int
    spoiled: int
    errors: Float[np.ndarray, " clean"]


def trial(
    labels: Path,
    encoder: Path,
    elevation: Path,
    objects: pl.DataFrame,
    meshes: Path,
    config: QualityConfig,
    *,
    seed: int,
) -> Trial:
    """Train on the labels, test on clips of `objects`, which must be of another split than the labels' objects.

    `encoder` and `elevation` are model folders; the estimator is tested as it is.
    """
    embedder = load_embedder(config.features, encoder)
    judged = [(row, sample) for row, sample in read_judged(labels) if row["verdict"] != UNSURE]
    seen = observe(embedder, [sample for _, sample in judged], config)
    good = np.array([row["verdict"] == GOOD for row, _ in judged])
    taught = np.array([row["who"].removeprefix("spoiled:") if row["verdict"] == BAD else GOOD for row, _ in judged])
    clips = list(trial_clips(objects, meshes, LabelsConfig.model_validate({}), seed=seed, clean=4))
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
    estimator = load_elevation(elevation)
    errors = [
        abs(estimator.degrees(observation.views)[0] - sample.meta["elevation"])
        for (kind, sample), observation in zip(clips, shown, strict=True)
        if kind == GOOD
    ]
    auc = float(roc_auc_score(clean, whole))
    return Trial(auc, without, int(clean.sum()), int((~clean).sum()), np.array(errors))
