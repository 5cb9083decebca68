"""What a mean over few objects is worth: bootstrap intervals, and comparisons of two models on the same objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 1000
LEVEL = 0.95
_AT_ONCE = 2**22  # numbers drawn at a time


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """`difference` is first minus second; `probability` that the first is better, of draws of objects."""

    difference: float
    low: float
    high: float
    probability: float


def interval(values: Float[np.ndarray, " n"]) -> Interval:
    """The mean over objects and its 95 % percentile bootstrap interval (Efron 1979). Raises ValueError without any."""
    low, high = _quantiles(_resampled(values))
    return Interval(float(values.mean()), low, high)


def compare(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], *, high_is_good: bool) -> Comparison:
    """Paired bootstrap of two models on the same objects, in the same order: objects are drawn, not values, so that
    what is hard for both hides nothing. Draws that make both equal count half.

    Raises ValueError for other lengths, or none.
    """
    if first.shape != second.shape:
        raise ValueError(f"{first.shape} and {second.shape} values are no pairs")
    apart = first - second
    means = _resampled(apart)
    better = means > 0 if high_is_good else means < 0
    low, high = _quantiles(means)
    return Comparison(float(apart.mean()), low, high, float(better.mean() + (means == 0).mean() / 2))


def _resampled(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " draws"]:
    if not len(values):
        raise ValueError("no values to draw from")
    rng = np.random.default_rng(0)
    step = max(1, _AT_ONCE // len(values))
    parts = [rng.choice(values, (min(step, DRAWS - first), len(values))).mean(1) for first in range(0, DRAWS, step)]
    return np.concatenate(parts)


def _quantiles(means: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
