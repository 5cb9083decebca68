"""Do people judge alike? Cohen's kappa of every two who judged some of the same clips."""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import cohen_kappa_score

from stages.quality.judged import UNDONE

SCHEMA: dict[str, Any] = {"a": pl.String, "b": pl.String, "clips": pl.Int64, "alike": pl.Float64, "kappa": pl.Float64}


def last_verdicts(labels: pl.DataFrame) -> pl.DataFrame:
    """The last verdict of each person on each clip, undone ones left out; clips spoiled on purpose have no judge."""
    people = labels.filter(~pl.col("who").str.starts_with("spoiled:"))
    last = people.sort("date", maintain_order=True).unique(["clip", "who"], keep="last", maintain_order=True)
    return last.filter(pl.col("verdict") != UNDONE)


def kappas(labels: pl.DataFrame) -> pl.DataFrame:
    """A row for every two people with shared clips: how many, the share judged alike, and kappa (1 always alike, 0 as
    by chance; null where both gave one verdict only, so that chance explains all)."""
    last = last_verdicts(labels)
    rows: list[tuple[str, str, int, float, float | None]] = []
    for a, b in combinations(sorted(set(last["who"])), 2):
        first, second = (last.filter(pl.col("who") == who).select("clip", "verdict") for who in (a, b))
        both = first.join(second, on="clip")
        if both.is_empty():
            continue
        x, y = both["verdict"].to_numpy(), both["verdict_right"].to_numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            kappa = float(cohen_kappa_score(x, y))
        rows.append((a, b, len(both), float((x == y).mean()), kappa if np.isfinite(kappa) else None))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
