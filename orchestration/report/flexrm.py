"""Quality by the number of input views: a table and a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import NamedTuple

import polars as pl

from orchestration.report.figures import NOTHING, between, in_order, number, title_of, unit_of
from stages.evaluation.statistics import Interval, interval

METRICS = ("psnr", "foreground_psnr", "iou")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 220, 44, 546, 12, 184


class Row(NamedTuple):
    """Views of one kind and number: of each metric the mean and its interval in words."""

    inputs: str
    views: int
    cells: tuple[tuple[str, str], ...]
    objects: int


class Lines(NamedTuple):
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


class Point(NamedTuple):
    x: float
    y: float
    low: float
    high: float


class Series(NamedTuple):
    name: str
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """In the units of its view box: heights of values, places of view counts, a line for each kind of views."""

    title: str
    series: tuple[Series, ...]
    levels: tuple[tuple[float, str], ...]
    counts: tuple[tuple[float, int], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT


def lines(figures: pl.DataFrame) -> Lines:
    """Kinds of views in the order of the table, counts from few to many; metrics that have a value."""
    metrics = [name for name in in_order(METRICS) if figures[name].drop_nulls().len()]
    titles = (f"{title_of(name)}, {unit_of(name)}" if unit_of(name) else title_of(name) for name in metrics)
    rows = []
    for inputs, views, some in _groups(figures):
        found = [_mean(some, name) for name in metrics]
        cells = ((number(each.mean), between(each.low, each.high)) if each else (NOTHING, "") for each in found)
        rows.append(Row(inputs, views, tuple(cells), some["object"].n_unique()))
    return Lines(tuple(titles), tuple(rows))


def chart(figures: pl.DataFrame) -> Chart | None:
    """Of the foreground's PSNR, or of that of all pixels; None where nothing can be drawn."""
    metric = "foreground_psnr" if figures["foreground_psnr"].drop_nulls().len() else "psnr"
    found = [(inputs, views, mean) for inputs, views, some in _groups(figures) if (mean := _mean(some, metric))]
    if len({views for _, views, _ in found}) < 2:
        return None
    counts = sorted({views for _, views, _ in found})
    least, most = min(mean.low for *_, mean in found), max(mean.high for *_, mean in found)
    wide, high = log2(counts[-1] / counts[0]), (most - least) or 1.0

    def x(views: int) -> float:
        return round(LEFT + 14 + (RIGHT - LEFT - 28) * log2(views / counts[0]) / wide, 1)

    def y(value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - least) / high, 1)

    series = []
    for name in dict.fromkeys(inputs for inputs, *_ in found):
        points = tuple(
            Point(x(views), y(mean.mean), y(mean.low), y(mean.high)) for inputs, views, mean in found if inputs == name
        )
        series.append(Series(name, " ".join(f"{point.x},{point.y}" for point in points), points))
    levels = tuple((y(value), number(value)) for value in (least, (least + most) / 2, most))
    title = f"{title_of(metric)}, {unit_of(metric)}"
    return Chart(title, tuple(series), levels, tuple((x(views), views) for views in counts))


def _groups(figures: pl.DataFrame) -> Iterator[tuple[str, int, pl.DataFrame]]:
    for inputs in figures["inputs"].unique(maintain_order=True):
        of_inputs = figures.filter(pl.col("inputs") == inputs)
        for views in sorted(of_inputs["views"].drop_nulls().unique()):
            yield inputs, views, of_inputs.filter(pl.col("views") == views)


def _mean(rows: pl.DataFrame, metric: str) -> Interval | None:
    """Over objects, each of which may stand there several times."""
    by_object = rows.group_by("object", maintain_order=True).agg(pl.col(metric).mean())[metric].drop_nulls()
    return interval(by_object.to_numpy()) if by_object.len() else None
