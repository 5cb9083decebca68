"""Which views of a pool are kept, relative to the mean and spread of what was counted in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def relative(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], faultless: float
) -> Float[np.ndarray, " n"]:
    """By how many spreads each value is above the weighted mean.

    The spread is the weighted standard deviation, but no less than `faultless` times the mean: in a pool without faults
    views differ too, and none is to be turned away for it. Where nothing spreads or weighs anything, all are 0.
    """
    if not weights.sum() > 0:
        return np.zeros(len(values))
    mean = np.average(values, weights=weights)
    spread = max(np.sqrt(np.average((values - mean) ** 2, weights=weights)), faultless * abs(mean))
    return (values - mean) / spread if spread > 1e-9 else np.zeros(len(values))


def kept(score: Float[np.ndarray, " n"], spread: float) -> Bool[np.ndarray, " n"]:
    """Those no more than `spread` spreads below the mean (Flex3D: mean - 0.6 standard deviations, recalled)."""
    return score >= -spread - 1e-9
