"""The judge of clips: an SVM on embeddings and measured statistics, taught by labelled clips.

    train_classifier(labels, encoder, output, config, *, seed, report)
        labels    folder of human_labels (labels*.parquet, clips*.tar)
        -> output/{config.json, model.safetensors, report.parquet, predictions.parquet, quarantine.parquet}
    load_classifier(folder) -> Classifier;  classifier.scores(features) -> probability of "good"

scikit-learn fits it; what is stored are its arrays, and the decision function is written out below, so that loading
needs neither scikit-learn nor trust in a pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

from stages.errors import InputError
from stages.quality.agreement import kappas
from stages.quality.config import ClassifierConfig, QualityConfig
from stages.quality.features import load_embedder
from stages.quality.judged import BAD, GOOD, SCHEMA, UNSURE, Fault, read_judged, read_labels
from stages.quality.observe import Observation, observe

REPORT = {"name": pl.String, "at": pl.Float64, "value": pl.Float64, "note": pl.String}


class ClassifierModel(BaseModel):
    """What the arrays of a classifier are, and the threshold that its report recommends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: int
    statistics: list[str]
    threshold: float
    reason: str


@dataclass(frozen=True)
class Classifier:
    """A radial-basis SVM with Platt's calibration, as plain arrays."""

    config: ClassifierModel
    arrays: dict[str, np.ndarray]

    def scores(self, observations: list[Observation]) -> Float[np.ndarray, " n"]:
        """Probability that a person would say "good", by the share of good clips among the labels."""
        if not observations:
            return np.zeros(0)
        names = tuple(observations[0].statistics)
        width = len(observations[0].embedding)
        if list(names) != self.config.statistics or width != self.config.embedding:
            raise ValueError(
                f"the classifier was trained on {self.config.embedding} embedding numbers and "
                f"{len(self.config.statistics)} statistics, these clips have {width} and {len(names)}; train it again"
            )
        slope, offset = self.arrays["platt"]
        return 1 / (1 + np.exp(-(slope * self.margins(observations) + offset)))

    def margins(self, observations: list[Observation]) -> Float[np.ndarray, " n"]:
        """The decision function before calibration: above 0 for clips more like good ones."""
        return self._margin(*_matrices(observations))

    def _margin(
        self, embedding: Float[np.ndarray, "n d"], statistics: Float[np.ndarray, "n s"]
    ) -> Float[np.ndarray, " n"]:
        a = self.arrays
        x = _Projection(a["centre"], a["spread"], a["basis"], a["shift"], a["scale"])(embedding, statistics)
        distance = ((x[:, None] - a["support"][None]) ** 2).sum(-1)
        return np.exp(-a["gamma"][0] * distance) @ a["weights"] + a["intercept"][0]


@dataclass(frozen=True)
class _Projection:
    """Principal components of the standardised embedding beside the statistics, all standardised."""

    centre: np.ndarray
    spread: np.ndarray
    basis: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @staticmethod
    def fitted(embedding: np.ndarray, statistics: np.ndarray, components: int) -> _Projection:
        centre, spread = embedding.mean(0), np.maximum(embedding.std(0), 1e-6)
        count = min(components, *embedding.shape)
        basis = np.linalg.svd((embedding - centre) / spread, full_matrices=False)[2][:count].T
        joined = np.concatenate((((embedding - centre) / spread) @ basis, statistics), 1)
        return _Projection(centre, spread, basis, joined.mean(0), np.maximum(joined.std(0), 1e-6))

    def __call__(self, embedding: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        joined = np.concatenate((((embedding - self.centre) / self.spread) @ self.basis, statistics), 1)
        # an outlier far beyond all labels must not leave every support vector behind
        return np.clip((joined - self.shift) / self.scale, -6, 6)


def fit_judge(observations: list[Observation], good: Bool[np.ndarray, " n"], config: ClassifierConfig) -> Classifier:
    """A classifier whose scores are not calibrated, for trials: only the order of its margins means something."""
    arrays = _fitted(*_matrices(observations), good, config) | {"platt": np.array([1.0, 0.0])}
    statistics = list(observations[0].statistics)
    width = len(observations[0].embedding)
    return Classifier(ClassifierModel(embedding=width, statistics=statistics, threshold=0, reason="none"), arrays)


def load_classifier(folder: Path) -> Classifier:
    """Raises FileNotFoundError when the folder holds none."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} holds no classifier")
    config = ClassifierModel.model_validate_json(path.read_text())
    return Classifier(config, load_file(folder / "model.safetensors"))


def save_classifier(classifier: Classifier, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(classifier.config.model_dump_json(indent=1) + "\n")
    arrays = {name: np.ascontiguousarray(array) for name, array in classifier.arrays.items()}
    save_file(arrays, folder / "model.safetensors")


def train_classifier(
    labels: Path,
    encoder: Path,
    output: Path,
    config: QualityConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Fit on all good and bad clips; calibrate and report on scores from folds that share no object.

    report.parquet: counts, roc_auc, average_precision, threshold with its reason, precision and recall there, the share
    rejected of each kind of spoil, the mean score of unsure clips, and the curves (precision, recall, false_positives
    `at` a score). predictions.parquet: the out-of-fold score of every clip, to find doubtful labels.
    quarantine.parquet: labels that could not be used as they stand (two verdicts, a clip that is gone), and why.
    Raises InputError when one of the verdicts is missing or all clips show one object.
    """
    embedder = load_embedder(config.features, encoder)
    faults: list[Fault] = []
    judged = list(read_judged(labels, faults))
    for fault in faults:
        report({"message": f"label {fault.id}: {fault.reason}"})
    observations = observe(embedder, [sample for _, sample in judged], config, report)
    rows = pl.DataFrame([row for row, _ in judged], schema=SCHEMA)
    certain = (rows["verdict"] != UNSURE).to_numpy()
    good = (rows["verdict"] == GOOD).to_numpy()[certain]
    groups = rows["object"].fill_null(rows["clip"]).to_numpy()[certain]  # clips drawn from text show no known object
    folds = min(config.classifier.folds, len(set(groups)))
    if good.all() or not good.any() or folds < 2:
        raise InputError(
            f"{labels}: {int(good.sum())} good and {int((~good).sum())} bad clips of {len(set(groups))} objects; "
            "the classifier needs both verdicts and at least two objects; judge more clips with `orbitforge label`"
        )
    embedding, statistics = _matrices(observations)
    parts = embedding[certain], statistics[certain], good, groups
    outside = _out_of_fold(*parts, folds, config.classifier, seed, report)
    platt = LogisticRegression(C=1e3).fit(outside[:, None], good)
    slope, offset = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    scores = 1 / (1 + np.exp(-(slope * outside + offset)))
    threshold, reason = _threshold(scores, good, config.classifier.precision)

    arrays = _fitted(embedding[certain], statistics[certain], good, config.classifier)
    arrays["platt"] = np.array([slope, offset])
    model = ClassifierModel(
        embedding=embedding.shape[1], statistics=list(observations[0].statistics), threshold=threshold, reason=reason
    )
    save_classifier(Classifier(model, arrays), output)
    predictions = rows.filter(certain).select("clip", "object", "who", "verdict").with_columns(score=scores)
    predictions.write_parquet(output / "predictions.parquet")
    quarantine = pl.DataFrame([vars(fault) for fault in faults], schema={"id": pl.String, "reason": pl.String})
    quarantine.sort("id", "reason").write_parquet(output / "quarantine.parquet")
    unsure = [observation for observation, sure in zip(observations, certain, strict=True) if not sure]
    table = _report(predictions, threshold, reason, folds, load_classifier(output).scores(unsure))
    table = pl.concat([table, _people(read_labels(labels), len(faults))])
    table.write_parquet(output / "report.parquet")
    figures = table.filter(pl.col("at").is_null()).select("name", "value").rows()
    report({"message": reason, "metrics": dict(figures)})


def _matrices(observations: list[Observation]) -> tuple[np.ndarray, np.ndarray]:
    embedding = np.stack([o.embedding for o in observations]).astype(np.float64)
    return embedding, np.array([list(o.statistics.values()) for o in observations], dtype=np.float64)


def _fitted(
    embedding: np.ndarray, statistics: np.ndarray, good: np.ndarray, config: ClassifierConfig
) -> dict[str, np.ndarray]:
    """The arrays of an SVM without its calibration."""
    projection = _Projection.fitted(embedding, statistics, config.components)
    x = projection(embedding, statistics)
    gamma = 1 / x.shape[1]
    machine = SVC(C=config.penalty, kernel="rbf", gamma=gamma).fit(x, good)
    return {
        "centre": projection.centre,
        "spread": projection.spread,
        "basis": projection.basis,
        "shift": projection.shift,
        "scale": projection.scale,
        "support": machine.support_vectors_,
        "weights": machine.dual_coef_[0],
        "intercept": machine.intercept_,
        "gamma": np.array([gamma]),
    }


def _out_of_fold(
    embedding: np.ndarray,
    statistics: np.ndarray,
    good: np.ndarray,
    groups: np.ndarray,
    folds: int,
    config: ClassifierConfig,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> Float[np.ndarray, " n"]:
    """The margin of each clip under a machine that saw no clip of its object."""
    margin = np.zeros(len(good))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    shape = ClassifierModel(embedding=embedding.shape[1], statistics=[], threshold=0, reason="")
    for fold, (inside, outside) in enumerate(splitter.split(embedding, good, groups)):
        machine = Classifier(shape, _fitted(embedding[inside], statistics[inside], good[inside], config))
        margin[outside] = machine._margin(embedding[outside], statistics[outside])
        report({"step": fold + 1, "of": folds, "doing": "judging folds"})
    return margin


def _threshold(scores: np.ndarray, good: np.ndarray, wanted: float) -> tuple[float, str]:
    """The lowest score above which `wanted` of the clips are good; the best F1 where none is pure enough."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(good[order])
    precision, recall = hits / np.arange(1, len(good) + 1), hits / good.sum()
    pure = np.flatnonzero(precision >= wanted)
    if len(pure):
        place, why = pure[-1], f"lowest score at which {wanted:.0%} of the accepted clips are good"
    else:
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        place, why = f1.argmax(), f"best F1: no score reaches a precision of {wanted:.0%}"
    threshold = float(scores[order[place]])
    return threshold, f"{why}, out of fold: precision {precision[place]:.3f}, recall {recall[place]:.3f}"


def _people(labels: pl.DataFrame, faults: int) -> pl.DataFrame:
    """Rows of the report about those who judged."""
    rows: list[tuple[str, float | None, float, str]] = [("faults", None, float(faults), "see quarantine.parquet")]
    for pair in kappas(labels).drop_nulls("kappa").to_dicts():
        note = f"Cohen's, on {pair['clips']} clips that both judged, {pair['alike']:.0%} alike"
        rows.append((f"kappa.{pair['a']} and {pair['b']}", None, pair["kappa"], note))
    return pl.DataFrame(rows, schema=REPORT, orient="row")


def _report(predictions: pl.DataFrame, threshold: float, reason: str, folds: int, unsure: np.ndarray) -> pl.DataFrame:
    scores, good = predictions["score"].to_numpy(), (predictions["verdict"] == GOOD).to_numpy()
    accepted = scores >= threshold
    rows: list[tuple[str, float | None, float, str]] = [
        ("good", None, float(good.sum()), "clips"),
        ("bad", None, float((~good).sum()), "clips"),
        ("unsure", None, float(len(unsure)), "clips, not trained on"),
        ("objects", None, float(predictions["object"].n_unique()), "no object is in two folds"),
        ("folds", None, float(folds), "all figures below are out of fold"),
        ("roc_auc", None, float(roc_auc_score(good, scores)), ""),
        ("average_precision", None, float(average_precision_score(good, scores)), ""),
        ("threshold", None, threshold, reason),
        ("precision", None, float(good[accepted].mean()), "at the threshold"),
        ("recall", None, float(accepted[good].mean()), "at the threshold"),
    ]
    if len(unsure):
        rows.append(("unsure_score", None, float(unsure.mean()), "mean, by the final machine"))
    for (who,), part in predictions.filter(pl.col("verdict") == BAD).sort("who").group_by("who", maintain_order=True):
        share = float((part["score"] < threshold).mean())  # pyright: ignore[reportArgumentType]
        rows.append((f"rejected.{who}", None, share, f"of {len(part)} bad clips"))
    for at in np.linspace(0, 1, 101):
        above = scores >= at
        rows.append(("curve.precision", float(at), float(good[above].mean()) if above.any() else 1.0, ""))
        rows.append(("curve.recall", float(at), float(above[good].mean()), ""))
        rows.append(("curve.false_positives", float(at), float(above[~good].mean()), ""))
    return pl.DataFrame(rows, schema=REPORT, orient="row")
