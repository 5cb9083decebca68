"""The reconstruction model of many views, whose outputs are Gaussians."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="flexrm",
    reads=("ring_manifest", "curated_manifest", "base_models"),
    files=("ring_views", "curated_views"),
    config=("flexrm", "quality.whiteness"),
    code=("stages.flexrm.make",),
    group="flexiview",
    kind="model",
    job="flexiview",
)


def make(work: Work) -> None:
    from stages.flexrm.make import make_flexrm

    make_flexrm(
        work.inputs["ring_manifest"] / "manifest.parquet",
        work.inputs["ring_views"],
        work.inputs["curated_manifest"] / "manifest.parquet",
        work.inputs["curated_views"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.scratch,
        work.preset.flexrm,
        work.preset.quality.whiteness,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "safetensors"}, pool=DEVICE))
def flexrm(context: dg.AssetExecutionContext) -> Events:
    """Any 1 to 32 posed views to a tri-plane and Gaussians; with an asset, its splats and a turntable."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
