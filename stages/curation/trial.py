"""Does curation find views that were spoiled on purpose? Nothing is fitted, so any objects will do to try it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from stages.candidates.pool import Pool
from stages.curation.curate import BY, Curator
from stages.curation.placing import shared
from stages.curation.spoils import spoiled
from stages.seeds import numpy_generator


@dataclass(frozen=True)
class Trial:
    """`roc_auc` of the scores by support and by matches with the queries; `kinds` the same by kind of spoil, against
    all good views; `good_kept` and `spoiled_kept` shares at the preset's threshold; `backs` shares of pools whose back
    is taken for a query, (where it is good, where it is spoiled); `seconds` medians of each step."""

    roc_auc: dict[str, float]
    kinds: dict[str, dict[str, float]]
    good: int
    spoiled: int
    good_kept: float
    spoiled_kept: float
    backs: tuple[float, float]
    seconds: dict[str, float]


def trial(pools: Sequence[Pool], curator: Curator, *, seed: int, repeats: int = 6, share: float = 0.5) -> Trial:
    """Spoil `share` of the views of each pool, `repeats` times anew, and curate what comes of it."""
    rows, backs, seconds = [], [], []
    for pool in pools:
        others = [other for other in pools if other.meta.get("object", other.id) != pool.meta.get("object", pool.id)]
        for repeat in range(repeats):
            rng = numpy_generator(seed, "trial", pool.id, repeat)
            made, which = spoiled(pool, rng, share, others=others)
            found = curator(made)
            seconds.append(found.seconds)
            backs.append((pool.back in which, found.back.passed))
            given = shared(pool).numpy()
            rows += [
                {
                    "kind": which.get(view, "good"),
                    "kept": bool(found.kept[view]),
                    **{by: float(found.scores[by][view]) for by in BY},
                }
                for view in np.flatnonzero(~given).tolist()
            ]
    table = pl.DataFrame(rows).with_columns(good=pl.col("kind") == "good")
    kinds = sorted(set(table["kind"]) - {"good"})
    bad = table.filter(~pl.col("good"))
    return Trial(
        {by: _auc(table, by) for by in BY},
        {by: {kind: _auc(table.filter(pl.col("good") | (pl.col("kind") == kind)), by) for kind in kinds} for by in BY},
        len(table) - len(bad),
        len(bad),
        _share(table.filter("good")["kept"].to_list()),
        _share(bad["kept"].to_list()),
        (_share([p for wrong, p in backs if not wrong]), _share([p for wrong, p in backs if wrong])),
        {step: float(np.median([each[step] for each in seconds])) for step in seconds[0]},
    )


def _auc(table: pl.DataFrame, by: str) -> float:
    return float(roc_auc_score(table["good"].to_numpy(), table[by].to_numpy()))


def _share(these: list[bool]) -> float:
    return float(np.mean(these)) if these else float("nan")
