"""The image model that draws several views of one picture's object."""

import shutil

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import better_than_repeating, loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="multiview_model",
    reads=("ring_manifest", "base_models"),
    files=("ring_views",),
    config=("multiview", "rings"),
    code=("stages.multiview.train",),
    group="candidates",
    kind="model",
    job="flexiview",
)


def make(work: Work) -> None:
    from stages.multiview.train import train

    train(
        work.inputs["ring_manifest"] / "manifest.parquet",
        work.inputs["ring_views"],
        work.inputs["base_models"] / "text_to_image",
        work.output,
        work.scratch,
        work.preset.multiview,
        work.preset.rings,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    loss_curves(work)
    shutil.copyfile(work.output / "views.png", work.scratch / "preview" / "views.png")


@dg.asset(**declared(STEP, kinds={"pytorch", "diffusers", "safetensors"}, pool=DEVICE))
def multiview_model(context: dg.AssetExecutionContext) -> Events:
    """A text-to-image model fine-tuned on rings: one picture in, views at all elevations of the rings out."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
better = better_than_repeating(STEP)
