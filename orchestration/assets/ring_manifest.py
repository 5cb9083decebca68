"""One row per object seen on rings: where its views are, and what is known about them."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="ring_manifest",
    reads=("ring_views",),
    config=(),
    code=("stages.rendering.manifest",),
    group="rings",
    kind="table",
    job="flexiview",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.rendering.manifest import write_manifest

    write_manifest(work.inputs["ring_views"], work.output, work.report)
    rows = pl.read_parquet(work.output / "manifest.parquet")
    table(work, rows.group_by("split", "reason").len("objects").sort("split", "reason"), "splits")


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def ring_manifest(context: dg.AssetExecutionContext) -> Events:
    """Path and md5 of each object's shard, split and quarantine reason: what the FlexiView3D models depend on."""
    yield from materialise(context, STEP, make)
