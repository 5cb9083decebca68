"""What the judge's figures say of a fine-tuning: do clips orbit after it, and no fewer than before?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

FEWEST_JUDGED = 8
"""Clips below which shares of orbits say nothing."""


class OrbitVerdict(NamedTuple):
    """`before` and `after` are the accepted shares of the `judged` clips, 0..1."""

    judged: int
    before: float
    after: float
    enough: bool
    worse: bool
    """Fewer orbit than before, by more than chance."""


def orbit_verdict(figures: Mapping[str, float]) -> OrbitVerdict:
    """From the rows that `stages.video.orbits` writes (judge/judged, before/accepted, after/accepted)."""
    judged = int(figures.get("judge/judged", 0))
    before, after = (figures.get(f"{when}/accepted", 0.0) for when in ("before", "after"))
    # two standard errors of the difference of two shares of so few clips
    chance = 2 * math.sqrt((before * (1 - before) + after * (1 - after)) / max(1, judged))
    enough = judged >= FEWEST_JUDGED
    return OrbitVerdict(judged, before, after, enough, enough and after < before - chance)
