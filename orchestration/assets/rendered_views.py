"""Orbits of every object, with cameras and alpha."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import cameras_fit, every_sample_accounted_for, few_quarantined
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import all_objects, contact_sheet, reasons
from orchestration.steps import Step, Work

STEP = Step(
    name="rendered_views",
    reads=("source_objects",),
    config=("rendering",),
    code=("stages.rendering.views",),
    group="rendering",
    kind="shards",
    shards="objects",
    unit="objects",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.rendering.views import render_shard

    source = work.inputs["source_objects"]
    objects = pl.read_parquet(source / "objects.parquet")
    render_shard(objects, source, work.output, work.preset.rendering, seed=work.seed, report=work.report)
    contact_sheet(work, "views.tar")
    all_objects(work, "views.tar")
    reasons(work)


@dg.asset(**declared(STEP, kinds={"webdataset", "numba"}))
def rendered_views(context: dg.AssetExecutionContext) -> Events:
    """Orbit views of each object as WebDataset shards; an object that will not render is quarantined with a reason."""
    yield from materialise(context, STEP, make)


complete = every_sample_accounted_for(STEP, "views.tar", row="object")
good = few_quarantined(STEP)
cameras = cameras_fit(STEP, "views.tar")
