"""The video model, fine-tuned to orbit objects."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite, orbits
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="video_model",
    reads=("rendered_manifest", "base_models"),
    files=("rendered_views",),
    config=("video",),
    code=("stages.video.finetune", "stages.video.orbits"),
    group="video",
    kind="model",
)


def make(work: Work) -> None:
    from stages.video.finetune import finetune
    from stages.video.orbits import judge_orbits

    finetune(
        work.inputs["rendered_manifest"] / "manifest.parquet",
        work.inputs["rendered_views"],
        work.inputs["base_models"] / "video",
        work.output,
        work.scratch,
        work.preset.video,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    judge_orbits(
        work.inputs["rendered_manifest"] / "manifest.parquet",
        work.inputs["rendered_views"],
        work.inputs["base_models"] / "video",
        work.inputs["base_models"] / "encoder",
        work.output,
        work.preset.video,
        seed=work.seed,
        report=work.report,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "diffusers", "safetensors"}, pool=DEVICE))
def video_model(context: dg.AssetExecutionContext) -> Events:
    """An image-to-video diffusion model that has seen the orbits of rendered training objects."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
orbiting = orbits(STEP)
