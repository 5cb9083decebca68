"""From a picture to the height it was taken from."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="elevation_estimator",
    reads=("rendered_manifest", "base_models"),
    files=("rendered_views",),
    config=("quality.features", "quality.elevation"),
    code=("stages.quality.elevation",),
    group="quality",
    kind="model",
)


def make(work: Work) -> None:
    from stages.quality.elevation import train_elevation

    train_elevation(
        work.inputs["rendered_manifest"] / "manifest.parquet",
        work.inputs["rendered_views"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.scratch,
        work.preset.quality,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "safetensors"}, pool=DEVICE))
def elevation_estimator(context: dg.AssetExecutionContext) -> Events:
    """A small MLP on image embeddings, trained on rendered orbits of known height; generated clips have no camera."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
