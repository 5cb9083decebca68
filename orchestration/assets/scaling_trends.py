"""The points together: how quality grows with the synthetic set, and the comparisons beside it."""

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="scaling_trends",
    reads=("scaling_points",),
    config=("scaling", "finetune.protocol"),
    code=("stages.evaluation.held_out", "stages.scaling.trends"),
    group="scaling",
    kind="table",
    job="study",
)
RISES = 0.9
"""Rank correlation of size and quality that the paper's claim asks for."""


def make(work: Work) -> None:
    from stages.evaluation.held_out import protocol_id
    from stages.scaling.trends import trends

    fits = trends(
        work.inputs["scaling_points"],
        work.preset.scaling.grid,
        protocol_id(work.preset.finetune.protocol),
        work.preset.scaling.steps,
        work.output,
    )
    table(work, fits, "slopes a doubling")
    table(work, means(pl.read_parquet(work.output / "points.parquet")), "means over seeds")


def means(points: pl.DataFrame) -> pl.DataFrame:
    """experiment, label and a column a metric: means over seeds, in the order of the experiments."""
    over_seeds = points.group_by("experiment", "label", "metric", maintain_order=True).agg(pl.col("mean").mean())
    return over_seeds.pivot("metric", index=["experiment", "label"], values="mean", maintain_order=True)


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def scaling_trends(context: dg.AssetExecutionContext) -> Events:
    """Size against held-out quality, with slopes; sources, filter, video models and training strategies compared."""
    yield from materialise(context, STEP, make)


@dg.asset_check(
    asset=STEP.name,
    description=f"Foreground PSNR rises with the synthetic set: rank correlation {RISES} and a slope surely above 0.",
)
def quality_rises_with_the_synthetic_set() -> dg.AssetCheckResult:
    folder = paths.data() / STEP.folder(pipeline.current().preset.name)
    fits = pl.read_parquet(folder / "fits.parquet")
    found = fits.filter((pl.col("experiment") == "synthetic size") & (pl.col("metric") == "foreground_psnr")).to_dicts()
    if not found:
        return dg.AssetCheckResult(passed=True, description="the grid has no sizes of the synthetic set")
    (fit,) = found
    return dg.AssetCheckResult(
        passed=fit["spearman"] >= RISES and fit["low"] > 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{fit['slope']:+.3f} dB a doubling [{fit['low']:.3f}, {fit['high']:.3f}], rank correlation "
        f"{fit['spearman']:.2f} over {fit['points']} sizes and {fit['seeds']} seeds",
    )
