"""Which clip should a person judge next?

Three of five proposals are what the classifier knows least about: scores nearest its threshold. One is drawn at random,
so that the labels also show what the corpus is like. One is a clip that someone else judged, so that agreement can be
measured. Each person has an order of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from stages.quality.agreement import last_verdicts
from stages.seeds import numpy_generator, sample_seed

UNCERTAIN, RANDOM, SECOND = "uncertain", "random", "second opinion"
ROUND = (UNCERTAIN, RANDOM, UNCERTAIN, SECOND, UNCERTAIN)


@dataclass(frozen=True)
class Proposal:
    """A clip to judge and why it was chosen."""

    clip: str
    why: str


def proposals(candidates: pl.DataFrame, labels: pl.DataFrame, who: str, *, seed: int = 0) -> Iterator[Proposal]:
    """Clips that `who` has not judged, best first.

    `candidates` has clip, score and threshold (null where nothing is known); `labels` are all verdicts so far. Clips
    that others judged come as second opinions alone. A kind of proposal that runs out is left out.
    """
    last = last_verdicts(labels)
    mine = set(last.filter(pl.col("who") == who)["clip"])
    fresh = candidates.filter(~pl.col("clip").is_in(sorted(set(last["clip"]))))
    doubt = (pl.col("score") - pl.col("threshold")).abs()
    order = fresh.with_columns(doubt=doubt).drop_nulls("doubt").sort("doubt", "clip")["clip"].to_list()
    rng = numpy_generator(seed, "proposals", who)
    others = sorted(set(last["clip"]) - mine, key=lambda clip: sample_seed(seed, who, clip))
    shuffled = [str(clip) for clip in rng.permutation(fresh["clip"].sort().to_numpy())]
    queues = {UNCERTAIN: iter(order), RANDOM: iter(shuffled), SECOND: iter(others)}
    given: set[str] = set()
    # a person who comes back goes on where the round stopped
    place, idle = len(mine) % len(ROUND), 0
    while idle < len(ROUND):
        kind = ROUND[place % len(ROUND)]
        place += 1
        clip = next((c for c in queues[kind] if c not in given), None)
        if clip is None:
            idle += 1
            continue
        idle = 0
        given.add(clip)
        yield Proposal(clip, kind)
