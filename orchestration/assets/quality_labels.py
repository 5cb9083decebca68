"""What is measured on every clip; the verdict is the manifest's."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="quality_labels",
    reads=("synthetic_corpus", "elevation_estimator", "quality_classifier", "base_models"),
    config=("quality.features", "quality.whiteness"),
    code=("stages.quality.labels",),
    group="quality",
    kind="shards",
    shards="prompts",
    unit="clips",
    models=True,
)


def make(work: Work) -> None:
    import polars as pl

    from stages.quality.labels import label_shard

    label_shard(
        work.inputs["synthetic_corpus"] / "clips.tar",
        work.inputs["elevation_estimator"],
        work.inputs["quality_classifier"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.preset.quality,
        seed=work.seed,
        report=work.report,
    )
    labels = pl.read_parquet(work.output / "labels.parquet")
    table(work, labels.select("id", "score", "elevation", "fault").sort("score", descending=True), "labels")


@dg.asset(**declared(STEP, kinds={"parquet", "pytorch"}))
def quality_labels(context: dg.AssetExecutionContext) -> Events:
    """Score, elevation, silhouettes and statistics of each clip; an unreadable one keeps its row, with a reason."""
    yield from materialise(context, STEP, make)
