"""Two versions of a corpus beside each other: how its clips are scored, seen from what height, and kept.

drift(before, after, categories) -> measure, group, before, after, change, distance, clips
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from scipy.stats import ks_2samp

from stages.quality.manifest import ACCEPTED

SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("measure", "group"), pl.String),
    **dict.fromkeys(("before", "after", "change", "distance"), pl.Float64),
    "clips": pl.Int64,
}
MEASURED = ("score", "elevation")


def drift(before: pl.DataFrame, after: pl.DataFrame, categories: Mapping[str, str]) -> pl.DataFrame:
    """Compare two manifests; `categories` maps an object to its category.

    Rows: `clips`; `kept share` of all, and by category, largest change first; the median of `score` and `elevation`
    with `distance`, the Kolmogorov-Smirnov distance of their distributions (0 alike, 1 apart).
    What one version has no clips of is null. The last column counts clips of the second version.
    """
    return pl.DataFrame(list(_rows(before, after, categories)), schema=SCHEMA, orient="row")


def _rows(before: pl.DataFrame, after: pl.DataFrame, categories: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    yield ("clips", "all", float(len(before)), float(len(after)), float(len(after) - len(before)), None, len(after))
    yield _change("kept share", "all", _kept(before), _kept(after), None, len(after))
    for name in MEASURED:
        then, now = (table[name].drop_nulls() for table in (before, after))
        apart = float(ks_2samp(then, now).statistic) if len(then) and len(now) else None  # pyright: ignore
        yield _change(name, "median", _number(then.median()), _number(now.median()), apart, len(now))
    groups = [_by_category(table, categories) for table in (before, after)]
    rows = [
        _change("kept share", name, _kept(groups[0].get(name)), _kept(groups[1].get(name)), None, len(part))
        for name in sorted(groups[0].keys() | groups[1].keys())
        for part in [groups[1].get(name, pl.DataFrame())]
    ]
    yield from sorted(rows, key=lambda row: -abs(row[4] or 0))


def _by_category(table: pl.DataFrame, categories: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    named = table.with_columns(
        category=pl.col("object").replace_strict(dict(categories), default="unknown", return_dtype=pl.String)
    )
    return {str(name): part for (name,), part in named.group_by("category")}


def _kept(table: pl.DataFrame | None) -> float | None:
    return None if table is None or table.is_empty() else _number((table["verdict"] == ACCEPTED).mean())


def _change(
    measure: str, group: str, before: float | None, after: float | None, distance: float | None, clips: int
) -> tuple[Any, ...]:
    change = None if before is None or after is None else after - before
    return (measure, group, before, after, change, distance, clips)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
