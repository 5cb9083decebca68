"""Views of every object on rings of several elevations: what the FlexiView3D models learn from."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import cameras_fit, every_sample_accounted_for, few_quarantined
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import contact_sheet, reasons
from orchestration.steps import Step, Work

STEP = Step(
    name="ring_views",
    reads=("source_objects",),
    config=("rings", "rendering"),
    code=("stages.rendering.rings", "stages.rendering.views"),
    group="rings",
    kind="shards",
    shards="objects",
    unit="objects",
    job="flexiview",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.rendering.rings import on_rings
    from stages.rendering.views import render_shard

    source = work.inputs["source_objects"]
    objects = pl.read_parquet(source / "objects.parquet")
    config = on_rings(work.preset.rings, work.preset.rendering)
    render_shard(objects, source, work.output, config, seed=work.seed, report=work.report)
    contact_sheet(work, "views.tar")
    reasons(work)


@dg.asset(**declared(STEP, kinds={"webdataset", "numba"}))
def ring_views(context: dg.AssetExecutionContext) -> Events:
    """Each object seen from every azimuth at every elevation of the candidate views, as WebDataset shards."""
    yield from materialise(context, STEP, make)


complete = every_sample_accounted_for(STEP, "views.tar", row="object")
good = few_quarantined(STEP)
cameras = cameras_fit(STEP, "views.tar")
