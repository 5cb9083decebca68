"""Bootstrap intervals beside scipy's, and paired comparisons."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from stages.evaluation.held_out import interval as older
from stages.evaluation.statistics import compare, interval


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 60))
def test_intervals_are_those_of_scipy(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).normal(size=count)
    found = interval(values)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=seed).confidence_interval
    wide = theirs.high - theirs.low
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.low, abs=0.12 * wide)
    assert found.high == pytest.approx(theirs.high, abs=0.12 * wide)


def test_an_interval_is_that_of_the_finetuned_model_s_own_metrics() -> None:
    values = [0.2, 0.5, 0.9, 0.4]
    table = pl.DataFrame({"object": ["a", "b", "c", "d"], "iou": values})
    assert interval(np.array(values))._asdict() | {"objects": 4} == older(table, "iou")


def test_one_object_has_no_width_and_none_is_refused() -> None:
    assert interval(np.array([3.0])) == (3, 3, 3)
    with pytest.raises(ValueError, match="no values"):
        interval(np.array([]))
    with pytest.raises(ValueError, match="no pairs"):
        compare(np.zeros(2), np.zeros(3), high_is_good=True)


@pytest.mark.parametrize("high_is_good", [True, False])
def test_pairs_tell_what_unpaired_means_hide(high_is_good: bool) -> None:
    hard = np.random.default_rng(0).normal(size=30) * 10  # objects differ far more than models do
    found = compare(hard + 0.5, hard, high_is_good=high_is_good)
    assert found.difference == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)
    assert found.probability == (1 if high_is_good else 0)
    turned = compare(hard, hard + 0.5, high_is_good=high_is_good)
    assert turned.probability == 1 - found.probability


def test_equal_models_are_as_good_as_each_other() -> None:
    values = np.arange(5.0)
    assert compare(values, values, high_is_good=True) == (0, 0, 0, 0.5)
    rng = np.random.default_rng(1)
    a = rng.normal(size=400)
    assert 0.02 < compare(a, a + rng.normal(size=400), high_is_good=True).probability < 0.98
