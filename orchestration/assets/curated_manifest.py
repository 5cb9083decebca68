"""One row for each pool of candidate views: what of it was kept, and where its bytes are."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="curated_manifest",
    reads=("curated_views",),
    config=("curation.fewest",),
    code=("stages.curation.manifest",),
    group="curation",
    kind="table",
    job="flexiview",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.curation.manifest import curated_manifest

    curated_manifest(work.inputs["curated_views"], work.output, work.preset.curation, report=work.report)
    rows = pl.read_parquet(work.output / "manifest.parquet")
    table(work, pl.read_parquet(work.output / "summary.parquet"), "curated")
    table(work, rows.group_by("verdict", "reason").len("pools").sort("verdict", "pools", "reason"), "reasons")


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def curated_manifest(context: dg.AssetExecutionContext) -> Events:
    """Path and md5 of each pool's shard, how many views were kept, verdict and reason: what FlexRM depends on."""
    yield from materialise(context, STEP, make)
