"""The candidate views that show one object, of each pool."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import curated, reasons
from orchestration.steps import Step, Work

STEP = Step(
    name="curated_views",
    reads=("candidate_views", "quality_classifier", "base_models"),
    config=("curation", "quality.features", "quality.whiteness", "quality.elevation.views"),
    code=("stages.curation.curate",),
    group="curation",
    kind="shards",
    shards="prompts",
    unit="pools",
    job="flexiview",
    models=True,
)


def make(work: Work) -> None:
    from stages.curation.curate import curate_shard

    curate_shard(
        work.inputs["candidate_views"],
        work.inputs["quality_classifier"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.preset.curation,
        work.preset.quality,
        seed=work.seed,
        report=work.report,
    )
    curated(work, work.inputs["candidate_views"] / "candidates.tar")
    reasons(work)


@dg.asset(**declared(STEP, pool=DEVICE, kinds={"webdataset", "pytorch"}))
def curated_views(context: dg.AssetExecutionContext) -> Events:
    """The pools with the views that agree with one another; what was counted of every candidate, verdict and reason."""
    yield from materialise(context, STEP, make)


@dg.asset_check(
    asset=STEP.name,
    blocking=True,
    description="Each pool of candidates is curated or quarantined with a reason, each of its views has a verdict.",
)
def every_candidate_accounted_for() -> dg.AssetCheckResult:
    from stages.shards import read_meta

    wrong: list[str] = []
    views = lost = 0
    for shard, folder in _made():
        candidates = paths.data() / pipeline.current().preset.name / "candidate_views" / shard
        told = pl.read_parquet(folder / "quarantine.parquet").drop_nulls("reason")["id"].to_list()
        rows = pl.read_parquet(folder / "views.parquet")
        judged = dict(rows.drop_nulls("verdict").group_by("pool").len().iter_rows())
        stored = {id_: len(meta["cameras"]) for id_, meta in read_meta(folder / "curated.tar")}
        accepted = dict(rows.group_by("pool").agg((pl.col("verdict") == "accepted").sum()).iter_rows())
        asked = {id_: len(meta["cameras"]) for id_, meta in read_meta(candidates / "candidates.tar") if id_ not in told}
        if asked != judged:
            odd = sorted(set(asked.items()) ^ set(judged.items()))
            wrong.append(f"{shard}: pools and verdicts do not match, first {odd[0][0]}")
        if stored != accepted:
            odd = sorted(set(stored.items()) ^ set(accepted.items()))
            wrong.append(f"{shard}: curated.tar holds other views than were accepted, first of {odd[0][0]}")
        before = set(pl.read_parquet(candidates / "quarantine.parquet")["id"])
        wrong += [f"{shard}: {id_} was quarantined before and is lost now" for id_ in sorted(before - set(told))]
        views, lost = views + len(rows), lost + len(told)
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return dg.AssetCheckResult(
        passed=not wrong,
        description="; ".join(wrong[:3]) + more or "all is well",
        metadata={"candidates": views, "quarantined": lost},
    )


@dg.asset_check(
    asset=STEP.name,
    description="The share of candidates that are kept lies within curation.band: beyond it says more about the "
    "curation than about the views.",
)
def share_of_kept_views() -> dg.AssetCheckResult:
    least, most = pipeline.current().preset.curation.band
    tables = [pl.read_parquet(folder / "views.parquet", columns=["verdict"]) for _, folder in _made()]
    verdicts = pl.concat(tables)["verdict"] if tables else pl.Series("verdict", [], pl.String)
    share = float((verdicts == "accepted").mean() or 0)  # type: ignore[arg-type]
    return dg.AssetCheckResult(
        passed=least <= share <= most,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{share:.1%} of {len(verdicts)} candidates are kept; the band is {least:.0%} to {most:.0%}",
        metadata={"share": share, "candidates": len(verdicts)},
    )


def _made() -> Iterator[tuple[str, Path]]:
    """The shards that are there, and their folders."""
    here = pipeline.current()
    for shard in here.shards(STEP):
        folder = paths.data() / STEP.folder(here.preset.name, shard)
        if folder.is_dir():
            yield str(shard), folder
