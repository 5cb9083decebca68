"""Two versions of a corpus beside each other, and how one shrank."""

import numpy as np
import polars as pl
import pytest

from stages.quality.config import VerdictConfig
from stages.quality.drift import drift
from stages.quality.manifest import ASKED, judged, shrinkage


def corpus(count: int, *, shift: float = 0.0, bad: str = "") -> pl.DataFrame:
    rng = np.random.default_rng(0)
    objects = ["chair1" if k % 2 else "lamp1" for k in range(count)]
    verdicts = ["rejected" if each == bad else "accepted" for each in objects]
    return pl.DataFrame(
        {
            "object": objects,
            "verdict": verdicts,
            "score": rng.random(count) + shift,
            "elevation": rng.uniform(0, 45, count),
        }
    )


CATEGORIES = {"chair1": "Chairs", "lamp1": "Lamps"}


def test_drift_names_what_moved() -> None:
    found = drift(corpus(200), corpus(100, shift=0.5, bad="lamp1"), CATEGORIES)
    rows = {(row["measure"], row["group"]): row for row in found.to_dicts()}
    assert rows["clips", "all"]["change"] == -100
    assert (rows["kept share", "all"]["before"], rows["kept share", "all"]["after"]) == (1.0, 0.5)
    assert rows["score", "median"]["change"] == pytest.approx(0.5, abs=0.1)
    assert rows["score", "median"]["distance"] > 0.4
    assert rows["elevation", "median"]["distance"] < 0.2
    assert rows["kept share", "Lamps"]["change"] == -1
    assert rows["kept share", "Chairs"]["change"] == 0
    assert found["group"].to_list()[4:] == ["Lamps", "Chairs"], "what changed most comes first"


def test_drift_of_the_same_is_nothing_and_of_nothing_is_null() -> None:
    same = drift(corpus(50), corpus(50), CATEGORIES)
    assert same["change"].abs().max() == 0
    empty = drift(corpus(50), corpus(50).clear(), {})
    assert empty.filter(pl.col("measure") == "score")["change"].to_list() == [None]


def test_the_funnel_ends_with_the_accepted_clips() -> None:
    """First what never came to be, then by the rules in their order."""
    faults = {"fault": ["torn"] + [None] * 8, "reason": [None, "no numbers"] + [None] * 7}
    measured = {
        "share_least": [0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        "border_most": [0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0],
        "motion_mean": [0.1, 0.1, 0.1, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1],
        "score": [None, None, 0.9, 0.9, 0.9, 0.1, 0.2, 0.9, 0.8],
    }
    clips = pl.DataFrame({"id": list("abcdefghi"), "shard": ["p"] * 9, "threshold": [0.5] * 9, **faults, **measured})
    table = judged(clips, VerdictConfig.model_validate({}))
    funnel = shrinkage(table)
    starts = [next(s for s in ASKED if step.startswith(s)) for step in funnel["step"][1:]]
    assert starts == list(ASKED)
    assert funnel["left out"].to_list() == [0, 1, 1, 1, 1, 1, 2]
    assert funnel["left"].to_list() == [9, 8, 7, 6, 5, 4, 2]
    assert funnel["left"][-1] == (table["verdict"] == "accepted").sum()
    assert funnel["share"][-1] == pytest.approx(2 / 9)
