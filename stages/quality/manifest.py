"""The verdict on every generated clip, and where its bytes are: what the reconstruction model is pre-trained on.

    corpus_manifest(labels, clips, output, config, *, report)
        labels    folder of quality_labels, one sub-folder a shard (labels.parquet, masks.tar)
        clips     folder of synthetic_corpus, one sub-folder a shard (clips.tar, quarantine.parquet)
        -> output/manifest.parquet  one row a clip that was ever asked for: id, shard, verdict, reason, score,
           threshold, elevation and its spread, mask statistics, clips_path, clips_md5, masks_path, masks_md5, caption,
           object, creator, licence, split, parents
           output/summary.parquet   reason, clips, share: how many clips went which way
    shrinkage(manifest) -> step, left out, left, share: how the corpus shrank

Nothing is dropped silently: a clip quarantined at generation, or broken since, is a row with its reason. Paths start at
the asset's folder (<shard>/clips.tar). No clip is opened: md5s are those that the labels noted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from stages.quality.clips import ORIGIN
from stages.quality.config import QualityConfig, VerdictConfig

ACCEPTED, REJECTED = "accepted", "rejected"
GIVEN_UP, BROKEN, EMPTY, CROPPED, STILL = (
    *("quarantined at generation: ", "broken: "),
    *("no object in some view", "cropped", "no motion"),
)
BELOW, SPARED = "score below threshold", "accepted below threshold, among the best"
ASKED = (GIVEN_UP, BROKEN, EMPTY, CROPPED, STILL, BELOW)
"""Reasons for leaving a clip out, or how they start, in the order of asking; the first that holds is the clip's."""
MASK_STATISTICS = ("share_mean", "share_least", "border_most", "pieces")
"""Of the silhouettes, see stages.quality.statistics."""
_TOGETHER = 100  # a small table of its own takes many times the memory of its rows
COLUMNS = (
    "id",
    "shard",
    "verdict",
    "reason",
    "score",
    "threshold",
    "elevation",
    "elevation_spread",
    *MASK_STATISTICS,
    "clips_path",
    "clips_md5",
    "masks_path",
    "masks_md5",
    *ORIGIN,
    "parents",
)


def corpus_manifest(
    labels: Path,
    clips: Path,
    output: Path,
    config: QualityConfig,
    *,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Judge every clip by the rules of `config.verdict`, in their order, and report the keep rate.

    Raises ValueError when shards of labels and clips do not match, when a clip has no label, or when fewer than
    `config.verdict.minimum` clips are accepted.
    """
    shards = sorted(path.name for path in clips.iterdir() if (path / "clips.tar").is_file())
    labelled = sorted(path.name for path in labels.iterdir() if (path / "labels.parquet").is_file())
    if shards != labelled:
        odd = sorted(set(shards) ^ set(labelled))
        raise ValueError(
            f"{len(odd)} shards are in only one of {clips} and {labels}, first {odd[:1]}; label them again"
        )
    if not shards:
        raise ValueError(f"{clips} holds no shard of clips; generate some first")
    parts: list[pl.DataFrame] = []
    tables: list[pl.DataFrame] = []
    for number, shard in enumerate(shards, 1):
        tables.append(_shard_rows(labels / shard, clips / shard))
        if len(tables) == _TOGETHER or number == len(shards):
            parts.append(pl.concat(tables, rechunk=True))
            tables = []
        report({"step": number, "of": len(shards), "doing": "reading shards"})
    table = judged(pl.concat(parts), config.verdict).select(COLUMNS).sort("shard", "id")
    summary = table.group_by("reason").agg(clips=pl.len()).sort("clips", "reason", descending=[True, False])
    summary = summary.with_columns(share=pl.col("clips") / len(table))
    accepted = int((table["verdict"] == ACCEPTED).sum())
    spared = int((table["reason"] == SPARED).sum())
    facts = {"clips": len(table), "accepted": accepted, "keep_rate": accepted / len(table), "spared": spared}
    report({"metrics": facts})
    if accepted < config.verdict.minimum:
        raise ValueError(_starved(table, summary, accepted, config.verdict))
    output.mkdir(parents=True, exist_ok=True)
    table.write_parquet(output / "manifest.parquet")
    summary.write_parquet(output / "summary.parquet")


def shrinkage(manifest: pl.DataFrame) -> pl.DataFrame:
    """The manifest as a funnel: each reason for which clips were left out, in the order in which reasons are asked for,
    how many it took, and how many were left then."""
    count = pl.len().alias("left out")
    out = manifest.filter(pl.col("verdict") == REJECTED).group_by("reason").agg(count)
    order = pl.coalesce(
        *(pl.when(pl.col("reason").str.starts_with(start)).then(place) for place, start in enumerate(ASKED)), len(ASKED)
    )
    steps = out.with_columns(order=order).sort("order", "left out", "reason", descending=[False, True, False])
    first = pl.DataFrame({"step": ["asked for"], "left out": [0]}, schema={"step": pl.String, "left out": pl.Int64})
    rows = pl.concat([first, steps.select(step="reason", **{"left out": pl.col("left out").cast(pl.Int64)})])
    left = len(manifest) - pl.col("left out").cum_sum()
    return rows.with_columns(left=left, share=left / max(len(manifest), 1))


def judged(clips: pl.DataFrame, rules: VerdictConfig) -> pl.DataFrame:
    """Clips with `reason` (the first rule that each breaks) and `verdict`.

    Where less than `rules.keep_least` of all clips reach the threshold, the best of the others that break no other
    rule are accepted too, and their reason says so.
    """
    threshold = pl.col("threshold") if rules.threshold is None else pl.lit(rules.threshold)
    clips = clips.with_columns(threshold=threshold).with_columns(
        reason=pl.when(pl.col("reason").is_not_null())
        .then(pl.concat_str(pl.lit(GIVEN_UP), "reason"))
        .when(pl.col("fault").is_not_null())
        .then(pl.concat_str(pl.lit(BROKEN), "fault"))
        .when(pl.col("share_least") < rules.smallest)
        .then(pl.lit(EMPTY))
        .when(pl.col("border_most") > rules.border)
        .then(pl.lit(CROPPED))
        .when(pl.col("motion_mean") < rules.motion)
        .then(pl.lit(STILL))
        .when(pl.col("score") < pl.col("threshold"))
        .then(pl.lit(BELOW))
        .otherwise(pl.lit(ACCEPTED))
    )
    wanted = round(rules.keep_least * len(clips)) - int((clips["reason"] == ACCEPTED).sum())
    below = clips.filter(pl.col("reason") == BELOW).sort(["score", "shard", "id"], descending=[True, False, False])
    spared = below.head(max(wanted, 0)).select("shard", "id").with_columns(spared=pl.lit(True))
    reason = pl.when("spared").then(pl.lit(SPARED)).otherwise("reason")
    clips = clips.join(spared, on=["shard", "id"], how="left").with_columns(reason=reason).drop("spared")
    kept = pl.col("reason").is_in([ACCEPTED, SPARED])
    return clips.with_columns(verdict=pl.when(kept).then(pl.lit(ACCEPTED)).otherwise(pl.lit(REJECTED)))


def _shard_rows(labels: Path, clips: Path) -> pl.DataFrame:
    """Every clip of a shard; `reason` is set where generation gave up."""
    table = pl.read_parquet(labels / "labels.parquet").with_columns(reason=pl.lit(None, pl.String))
    quarantine = clips / "quarantine.parquet"
    if quarantine.is_file() and len(lost := pl.read_parquet(quarantine).select("id", "reason")):
        if both := set(lost["id"]) & set(table["id"]):
            raise ValueError(f"{clips}: {len(both)} clips are both quarantined and present, first {min(both)!r}")
        table = pl.concat([table, lost], how="diagonal")
    here = clips.name
    return table.with_columns(
        pl.col("clips_md5", "masks_md5").fill_null(strategy="forward").fill_null(strategy="backward"),
        shard=pl.lit(here),
        clips_path=pl.lit(f"{here}/clips.tar"),
        masks_path=pl.lit(f"{here}/masks.tar"),
    )


def _starved(table: pl.DataFrame, summary: pl.DataFrame, accepted: int, rules: VerdictConfig) -> str:
    counts = ", ".join(f"{row['clips']} {row['reason']}" for row in summary.head(4).to_dicts())
    best = table["score"].max()
    shown = "none" if best is None else f"{best:.3f}"  # pyright: ignore[reportInvalidStringFormat]
    return (
        f"{accepted} of {len(table)} clips are accepted, at least {rules.minimum} are needed ({counts}; best score "
        f"{shown}): look at the clips; generate better ones, judge more of them, or lower quality.verdict.threshold"
    )
