"""Numbers as the page shows them: in words, in the order of what matters, with marks on a common scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import polars as pl

from orchestration.report.tables import Evaluation, Trends

NOTHING = "no value"
SURE = 0.95
"""The probability from which the page calls one model better than another."""
WANTED = {True: "higher is better", False: "lower is better", None: "no direction is better"}
SHOWN_FAILURES = 40
HEADLINE = 6


class Metric(NamedTuple):
    """What a metric is called, and its unit if it has one that a reader needs."""

    title: str
    unit: str = ""


METRICS = {
    "foreground_psnr": Metric("Foreground PSNR", "dB"),
    "iou": Metric("Silhouette IoU"),
    "lpips": Metric("LPIPS"),
    "feature_distance": Metric("Feature distance"),
    "clip_image": Metric("CLIP image similarity"),
    "clip_text": Metric("CLIP text similarity"),
    "dino": Metric("DINO similarity"),
    "chamfer": Metric("Chamfer distance"),
    "f_score": Metric("F-score"),
    "normal_consistency": Metric("Normal consistency"),
    "encoder_similarity": Metric("Encoder similarity"),
    "psnr": Metric("PSNR", "dB"),
    "ssim": Metric("SSIM"),
    "seconds": Metric("Time for an asset", "s"),
    "memory": Metric("Memory for an asset", "MiB"),
}
"""In the order of the page; a metric that is not here comes last, under its own name."""

EXPERIMENTS = {
    "synthetic size": "Size of the synthetic set",
    "objects": "Number of 3D objects",
    "video model": "Video model",
    "sources": "Sources of training data",
    "filter": "Filtered and unfiltered corpus",
    "strategies": "Training strategies",
}


@dataclass(frozen=True)
class Mark:
    """A mean and its interval, in percent of a scale that the rows of one metric share."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One model's mean of one metric, in words: `mean` with its unit, `interval` without."""

    model: str
    mean: str
    interval: str
    objects: int
    failed: int
    mark: Mark | None = None


@dataclass(frozen=True)
class Measured:
    """All models under one metric and protocol."""

    metric: str
    title: str
    wanted: str
    protocol: str
    figures: tuple[Figure, ...]

    @property
    def known(self) -> bool:
        """Whether any model has a value."""
        return any(figure.mean != NOTHING for figure in self.figures)


@dataclass(frozen=True)
class Difference:
    words: str
    interval: str
    probability: str
    verdict: str
    objects: int


@dataclass(frozen=True)
class Compared:
    """One model against others: metric, protocol and a difference for each of `against`, None where there is none."""

    model: str
    against: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Difference | None, ...]], ...]


@dataclass(frozen=True)
class Failures:
    """Rows without a value: how many, and of each model and reason how often and where."""

    count: int
    rows: tuple[tuple[str, str, str, int], ...]
    left_out: int


@dataclass(frozen=True)
class Experiment:
    """One experiment as a table: a line for each point, a cell for each metric (mean, what it varies over)."""

    name: str
    title: str
    metrics: tuple[str, ...]
    lines: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    protocol: str
    steps: str
    fits: tuple[tuple[str, str, str, str, int, int], ...]
    over_a_size: bool


def number(value: float | None, *, sign: bool = False) -> str:
    """Three digits that matter, or about that; the minus sign is a real one."""
    if value is None or value != value:
        return NOTHING
    size = abs(value)
    if 0 < size < 1e-3:
        text = f"{value:+.1e}" if sign else f"{value:.1e}"
    else:
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
        text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def between(low: float | None, high: float | None, *, sign: bool = False) -> str:
    return "" if low is None or high is None else f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def title_of(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric.replace("_", " ")


def unit_of(metric: str, told: str | None = None) -> str:
    """What follows a number: nothing after a bare one such as an IoU, whatever a table has `told`."""
    if metric in METRICS:
        return (told or METRICS[metric].unit) if METRICS[metric].unit else ""
    return told or ""


def in_order(metrics: Sequence[str]) -> list[str]:
    known = list(METRICS)
    return sorted(set(metrics), key=lambda name: (known.index(name) if name in known else len(known), name))


def measured(evaluation: Evaluation) -> list[Measured]:
    """One entry for each metric and protocol; models in the order of the evaluation."""
    found = []
    for protocol in evaluation.means["protocol"].unique(maintain_order=True):
        of_protocol = evaluation.means.filter(pl.col("protocol") == protocol)
        for metric in in_order(of_protocol["metric"].to_list()):
            rows = of_protocol.filter(pl.col("metric") == metric)
            first = rows.row(0, named=True)
            figures = tuple(_figures(rows, unit_of(metric, first["unit"])))
            found.append(Measured(metric, title_of(metric), WANTED[first["high_is_good"]], protocol, figures))
    return found


def headline(measured: Sequence[Measured], model: str) -> list[tuple[Measured, Figure]]:
    """The model's figures that matter most and have a value."""
    of_model = [(each, figure) for each in measured for figure in each.figures if figure.model == model]
    return [(each, figure) for each, figure in of_model if figure.mean != NOTHING][:HEADLINE]


def _figures(rows: pl.DataFrame, unit: str) -> Iterator[Figure]:
    ends = [value for name in ("low", "mean", "high") for value in rows[name].drop_nulls() if isfinite(value)]
    least, width = (min(ends), max(ends) - min(ends)) if ends else (0.0, 0.0)

    def place(value: float) -> float:
        return round(3 + 94 * (value - least) / width, 1) if width else 50.0

    for row in rows.iter_rows(named=True):
        mean, mark = row["mean"], None
        # a bound that is missing leaves the mean alone on the scale
        low, high = (mean if row[end] is None else row[end] for end in ("low", "high"))
        if mean is not None and all(map(isfinite, (low, mean, high))):
            mark = Mark(place(low), place(mean), place(high))
        words = f"{number(mean)} {unit}".rstrip() if mean is not None else NOTHING
        yield Figure(row["model"], words, between(row["low"], row["high"]), row["objects"], row["failed"], mark)


def compared(evaluation: Evaluation) -> list[Compared]:
    """The shown model first, then the others."""
    table = evaluation.comparisons
    models = sorted(table["model"].unique(maintain_order=True), key=lambda name: name != evaluation.shown)
    found = []
    for model in models:
        mine = table.filter(pl.col("model") == model)
        against = tuple(mine["against"].unique(maintain_order=True))
        rows = []
        for protocol in mine["protocol"].unique(maintain_order=True):
            of_protocol = mine.filter(pl.col("protocol") == protocol)
            for metric in in_order(of_protocol["metric"].to_list()):
                by_other = {
                    row["against"]: _difference(row, evaluation, metric)
                    for row in of_protocol.filter(pl.col("metric") == metric).iter_rows(named=True)
                }
                rows.append((title_of(metric), protocol, tuple(by_other.get(other) for other in against)))
        found.append(Compared(model, against, tuple(rows)))
    return found


def _difference(row: dict[str, float | None], evaluation: Evaluation, metric: str) -> Difference:
    units = evaluation.means.filter(pl.col("metric") == metric)["unit"].drop_nulls()
    unit = unit_of(metric, units[0] if len(units) else None)
    probability = row["probability"]
    objects = int(row["objects"] or 0)
    if probability is None or row["difference"] is None:
        return Difference(NOTHING, "", "", "", objects)
    return Difference(
        f"{number(row['difference'], sign=True)} {unit}".rstrip(),
        between(row["low"], row["high"], sign=True),
        f"{probability:.2f}",
        "better" if probability >= SURE else "worse" if probability <= 1 - SURE else "",
        objects,
    )


def failures(evaluation: Evaluation) -> Failures:
    none = evaluation.values.filter(pl.col("value").is_null())
    rows = (
        none.with_columns(pl.col("reason").fill_null("no reason was given"))
        .group_by("model", "reason", maintain_order=True)
        .agg(metrics=pl.col("metric").unique(maintain_order=True), times=pl.len())
        .iter_rows(named=True)
    )
    told = [
        (row["model"], row["reason"], ", ".join(title_of(name) for name in in_order(row["metrics"])), row["times"])
        for row in rows
    ]
    return Failures(len(none), tuple(told[:SHOWN_FAILURES]), max(0, len(told) - SHOWN_FAILURES))


def experiments(trends: Trends) -> list[Experiment]:
    """In the order of EXPERIMENTS, then as they come."""
    names = list(trends.points["experiment"].unique(maintain_order=True))
    known = list(EXPERIMENTS)
    names.sort(key=lambda name: known.index(name) if name in known else len(known))
    return [_experiment(name, trends) for name in names]


def _experiment(name: str, trends: Trends) -> Experiment:
    points = trends.points.filter(pl.col("experiment") == name)
    fits = trends.fits.filter(pl.col("experiment") == name)
    over_a_size = points["x"].null_count() < len(points)
    metrics = in_order(points["metric"].to_list())
    ordered = points.sort("x", maintain_order=True) if over_a_size else points
    lines = tuple(
        (rows["label"][0], tuple(_cell(rows.filter(pl.col("metric") == each)) for each in metrics))
        for _, rows in ordered.group_by("point", maintain_order=True)
    )
    steps = sorted(points["steps"].drop_nulls().unique())
    return Experiment(
        name,
        EXPERIMENTS.get(name, name.capitalize()),
        tuple(f"{title_of(each)}, {unit_of(each)}" if unit_of(each) else title_of(each) for each in metrics),
        lines,
        ", ".join(points["protocol"].drop_nulls().unique().sort()),
        " or ".join(f"{each:,}" for each in steps),
        tuple(_fits(fits)),
        over_a_size,
    )


def _cell(rows: pl.DataFrame) -> tuple[str, str]:
    """The mean over seeds, and its range over them; of one seed the interval over objects."""
    rows = rows.filter(pl.col("mean").is_not_null())
    if rows.is_empty():
        return NOTHING, ""
    if len(rows) == 1:
        row = rows.row(0, named=True)
        interval = between(row["low"], row["high"])
        return number(row["mean"]), f"{interval}, one seed" if interval else "one seed"
    least, most = rows["mean"].min(), rows["mean"].max()
    return number(rows["mean"].mean()), f"{between(least, most)} over {len(rows)} seeds"  # pyright: ignore[reportArgumentType]  # floats


def _fits(fits: pl.DataFrame) -> Iterator[tuple[str, str, str, str, int, int]]:
    for metric in in_order(fits["metric"].to_list()):
        for row in fits.filter(pl.col("metric") == metric).iter_rows(named=True):
            slope = f"{number(row['slope'], sign=True)} {unit_of(metric)}".rstrip()
            interval = between(row["low"], row["high"], sign=True)
            yield title_of(metric), slope, interval, number(row["spearman"], sign=True), row["points"], row["seeds"]
