"""One row per object: where its views are, and what is known about them."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import histograms, table
from orchestration.steps import Step, Work

STEP = Step(
    name="rendered_manifest",
    reads=("rendered_views",),
    config=(),
    code=("stages.rendering.manifest",),
    group="rendering",
    kind="table",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.rendering.manifest import write_manifest

    write_manifest(work.inputs["rendered_views"], work.output, work.report)
    rows = pl.read_parquet(work.output / "manifest.parquet")
    table(work, rows.group_by("split", "reason").len("orbits").sort("split", "reason"), "splits")
    table(work, rows.group_by("licence").len("orbits").sort("orbits", descending=True), "licences")
    histograms(work, rows, {"elevation": "degrees", "coverage": "share of a view"})


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def rendered_manifest(context: dg.AssetExecutionContext) -> Events:
    """Path and md5 of each object's shard, split, cameras, coverage and quarantine reason: what trainings depend on."""
    yield from materialise(context, STEP, make)
