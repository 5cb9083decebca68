"""Curation of candidate views (Flex3D): which views of a pool show the same object, as seen by their cameras.

    load_curator(classifier, encoder, config, quality) -> curator;  curator(pool) -> Selection
    curate_shard(candidates, classifier, encoder, output, config, quality, *, seed, report)
        candidates  folder with candidates.tar and quarantine.parquet
        classifier, encoder   model folders
        -> output/curated.tar       the pools with the views that were kept, with their cameras
           output/views.parquet     one row a candidate: pool, view, source, azimuth, elevation, matches with the front
                                    and with the back, support, score, verdict, reason
           output/pools.parquet     one row a pool: what the back was judged by, views, kept
           output/quarantine.parquet   id, reason: what gave no pool, and pools that cannot be used

The front is always kept, as is the view of the other model that stands there: it is what was asked for. The paper's
rule counts matches with the queries alone; ours counts what the whole pool confirms, see `stages.curation.support`.
Both are stored, `config.by` says which decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float

from stages.candidates.pool import Pool
from stages.curation.config import CurationConfig
from stages.curation.matching import Matcher, load_matcher
from stages.curation.placing import directions, shared
from stages.curation.queries import Back, BackJudge, load_back_judge
from stages.curation.selection import kept, relative
from stages.curation.support import Support, support
from stages.quality.clips import Broken, count_clips, read_clips
from stages.quality.config import QualityConfig
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.shards import ShardWriter

VIEWS: dict[str, Any] = {
    "pool": pl.String,
    "view": pl.Int64,
    "source": pl.String,
    "azimuth": pl.Float64,
    "elevation": pl.Float64,
    "matches_front": pl.Int64,
    "matches_back": pl.Int64,
    "support": pl.Float64,
    "confirmed": pl.Int64,
    "score": pl.Float64,
    "verdict": pl.String,
    "reason": pl.String,
}
"""`matches_back` is null where the back is no query; `support` is the share and `confirmed` the number of confirmed
pixels, see `Support`; `score` is how many spreads of its pool a view lies above the mean."""
POOLS: dict[str, Any] = {
    "pool": pl.String,
    "score": pl.Float64,
    "overlap": pl.Float64,
    "sharpness": pl.Float64,
    "back": pl.Boolean,
    "reason": pl.String,
    "views": pl.Int64,
    "kept": pl.Int64,
}
"""`score` is the classifier's; `back` says whether the back is a query, and `reason` why or why not."""
QUARANTINE = {"id": pl.String, "reason": pl.String}
BY = ("support", "matches")
FRONT = "the front: it is what was asked for"


@dataclass(frozen=True)
class Selection:
    """`views` is a table as VIEWS has it; `scores` are its scores by "support" and by "matches", whichever decides;
    `seconds` says how long each step took."""

    pool: str
    kept: Bool[np.ndarray, " n"]
    views: pl.DataFrame
    scores: dict[str, Float[np.ndarray, " n"]]
    back: Back
    seconds: dict[str, float]

    def row(self) -> dict[str, Any]:
        """As POOLS has it."""
        judged = {"score": self.back.score, "overlap": self.back.overlap, "sharpness": self.back.sharpness}
        counts = {"views": len(self.kept), "kept": int(self.kept.sum())}
        return {"pool": self.pool, **judged, "back": self.back.passed, "reason": self.back.reason, **counts}


@dataclass(frozen=True)
class Curator:
    """Loaded once, for many pools."""

    matcher: Matcher
    judge: BackJudge
    config: CurationConfig

    def __call__(self, pool: Pool) -> Selection:
        """Raises ValueError for a pool that cannot be used, or when the classifier was trained on other features."""
        _refuse_unusable(pool)
        seconds: dict[str, float] = {}
        given = shared(pool).numpy()
        with _timed(seconds, "back"):
            back = self.judge(pool)
        queries = {"front": pool.front} | ({"back": pool.back} if back.passed else {})
        asked = np.isin(np.arange(len(given)), list(queries.values()))
        with _timed(seconds, "describe"):
            described = self.matcher.describe(pool.views)
        with _timed(seconds, "match"):
            matches = {
                name: np.array([len(found) for found in self.matcher.match(described, place)])
                for name, place in queries.items()
            }
        with _timed(seconds, "support"):
            found = support(pool.views, pool.cameras, given, asked, self.config.support)
        with _timed(seconds, "select"):
            # mean and spread are of the rest of the pool: not of the views at the front's camera, which agree with it
            # in any case, nor of the query itself; support by trust, so that many spoiled views do not become the rule
            faultless = self.config.faultless
            above = {
                name: relative(counts.astype(float), ~given & (np.arange(len(given)) != queries[name]), faultless)
                for name, counts in matches.items()
            }
            # a view that one query keeps is kept
            scores = {
                "support": relative(found.share, found.trust * ~given, faultless),
                "matches": np.max(list(above.values()), axis=0),
            }
            keep = kept(scores[self.config.by], self.config.spread) | given
            counted = {"support": (found.share, scores["support"])}
            if self.config.by == "matches":
                counted = {f"matches with the {name}": (matches[name], above[name]) for name in queries}
            reasons = [FRONT if its else self._reason(counted, place) for place, its in enumerate(given)]
            table = _table(pool, matches, found, scores[self.config.by], keep, reasons)
        return Selection(pool.id, keep, table, scores, back, seconds)

    def _reason(self, counted: dict[str, tuple[np.ndarray, np.ndarray]], place: int) -> str:
        """What was counted, beside what it is held against."""
        told = (f"{name} {count[place]:.3g} ({above[place]:+.2f})" for name, (count, above) in counted.items())
        return f"{' or '.join(told)}, in spreads from the mean; {-self.config.spread:+g} is kept"


def _table(
    pool: Pool,
    matches: dict[str, np.ndarray],
    found: Support,
    score: Float[np.ndarray, " n"],
    keep: Bool[np.ndarray, " n"],
    reasons: list[str],
) -> pl.DataFrame:
    azimuths, elevations = (angles.double().round(decimals=3).tolist() for angles in directions(pool.cameras))
    columns = {
        "pool": [pool.id] * len(keep),
        "view": range(len(keep)),
        "source": pool.sources,
        "azimuth": azimuths,
        "elevation": elevations,
        "matches_front": matches["front"].tolist(),
        "matches_back": matches["back"].tolist() if "back" in matches else [None] * len(keep),
        "support": found.share.tolist(),
        "confirmed": np.rint(found.pixels).astype(int).tolist(),
        "score": score.tolist(),
        "verdict": [ACCEPTED if it else REJECTED for it in keep],
        "reason": reasons,
    }
    return pl.DataFrame(columns, schema=VIEWS)


def load_curator(classifier: Path, encoder: Path, config: CurationConfig, quality: QualityConfig) -> Curator:
    """`classifier` and `encoder` are model folders. Raises FileNotFoundError or InputError when weights are missing, or
    are others than the preset names."""
    judge = load_back_judge(classifier, encoder, config.back, quality)
    return Curator(load_matcher(config.matcher, encoder), judge, config)


def chosen(pool: Pool, keep: Bool[np.ndarray, " n"]) -> Pool:
    """The pool with the views that are kept, the front among them; `meta["kept"]` says where they stood, and elevations
    and azimuths are theirs. The clip is what is left of it: its first view is the front, and there may be no back."""
    places = np.flatnonzero(keep).tolist()
    where = {old: new for new, old in enumerate(places)}
    azimuths, elevations = (angles[places].tolist() for angles in directions(pool.cameras))
    told = {
        "kept": places,
        "azimuths": [round(a, 3) for a in azimuths],
        "elevations": [round(e, 3) for e in elevations],
    }
    return replace(
        pool,
        views=pool.views[places],
        cameras=pool.cameras[places],
        sources=tuple(pool.sources[place] for place in places),
        clip=tuple(where[place] for place in pool.clip if place in where),
        meta={**pool.meta, **told},
    )


def curate_shard(
    candidates: Path,
    classifier: Path,
    encoder: Path,
    output: Path,
    config: CurationConfig,
    quality: QualityConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Curate every pool of a shard, one in memory at a time. Nothing here is random; `seed` is part of every stage's
    signature. Raises ValueError when the tar itself is damaged, or when the classifier was trained on other features.
    """
    torch.set_num_threads(1)
    curator = load_curator(classifier, encoder, config, quality)
    views, pools, lost = [], [], _quarantined(candidates)
    count = count_clips(candidates / "candidates.tar")
    output.mkdir(parents=True, exist_ok=True)
    with ShardWriter(output / "curated.tar") as shard:
        for pool in _pools(candidates / "candidates.tar"):
            if isinstance(pool, Broken):
                lost.append(vars(pool))
                report({"message": f"{pool.id} cannot be curated: {pool.reason}"})
                continue
            found = curator(pool)
            shard.add(chosen(pool, found.kept).sample())
            views.append(found.views)
            pools.append(found.row())
            report({"step": len(pools), "of": count})
    pl.concat([pl.DataFrame(schema=VIEWS), *views]).sort("pool", "view").write_parquet(output / "views.parquet")
    pl.DataFrame(pools, schema=POOLS).sort("pool").write_parquet(output / "pools.parquet")
    pl.DataFrame(lost, schema=QUARANTINE).sort("id").write_parquet(output / "quarantine.parquet")


def _pools(tar: Path) -> Iterator[Pool | Broken]:
    for sample in read_clips(tar):
        if isinstance(sample, Broken):
            yield sample
            continue
        try:
            pool = Pool.of(sample)
            _refuse_unusable(pool)
        except (ValueError, TypeError) as error:
            yield Broken(sample.id, str(error))
        else:
            yield pool


def _refuse_unusable(pool: Pool) -> None:
    """Raises ValueError for what no selection can be made of."""
    count = len(pool.views)
    if len(pool.sources) != count or len(pool.cameras.pose) != count:
        told = f"{count} views, {len(pool.sources)} sources and {len(pool.cameras.pose)} cameras"
        raise ValueError(f"{pool.id}: {told} do not match")
    if not pool.clip or not set(pool.clip) <= set(range(count)):
        raise ValueError(f"{pool.id}: its clip {list(pool.clip)} names views that are none of its {count}")
    if not (torch.isfinite(pool.cameras.pose).all() and torch.isfinite(pool.cameras.intrinsics).all()):
        raise ValueError(f"{pool.id}: a camera holds numbers that are not finite")


def _quarantined(candidates: Path) -> list[dict[str, Any]]:
    """What gave no pool in the first place: it is carried along, so that nothing is lost."""
    file = candidates / "quarantine.parquet"
    return pl.read_parquet(file).select(list(QUARANTINE)).to_dicts() if file.is_file() else []


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - began
