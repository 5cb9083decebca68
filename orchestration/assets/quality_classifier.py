"""From a clip to how much a person would like it."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import rates, table
from orchestration.steps import Step, Work

STEP = Step(
    name="quality_classifier",
    reads=("human_labels", "base_models"),
    config=("quality.features", "quality.classifier", "quality.whiteness"),
    code=("stages.quality.classifier",),
    group="quality",
    kind="model",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.quality.classifier import train_classifier

    train_classifier(
        work.inputs["human_labels"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.preset.quality,
        seed=work.seed,
        report=work.report,
    )
    rates(work, pl.read_parquet(work.output / "report.parquet"))
    table(work, pl.read_parquet(work.output / "quarantine.parquet"), "labels_with_faults")


@dg.asset(**declared(STEP, kinds={"scikitlearn", "safetensors"}, pool=DEVICE))
def quality_classifier(context: dg.AssetExecutionContext) -> Events:
    """An SVM on image embeddings, trained on the verdicts of people, with a report on clips that it did not see."""
    yield from materialise(context, STEP, make)
