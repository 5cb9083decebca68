"""The model that users get."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="lrm_finetuned",
    reads=("lrm_pretrained", "rendered_manifest"),
    files=("rendered_views",),
    config=("finetune",),
    code=("stages.reconstruction.train",),
    group="reconstruction",
    kind="model",
)


def make(work: Work) -> None:
    from stages.reconstruction.train import finetune

    finetune(
        work.inputs["rendered_manifest"] / "manifest.parquet",
        work.inputs["rendered_views"],
        work.inputs["lrm_pretrained"],
        work.output,
        work.scratch,
        work.preset.finetune,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "safetensors"}, pool=DEVICE))
def lrm_finetuned(context: dg.AssetExecutionContext) -> Events:
    """The pretrained model fine-tuned on true views of rendered objects; with an asset, a turntable and figures."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
