"""The verdict on every generated clip, and where its bytes are."""

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="corpus_manifest",
    reads=("quality_labels", "synthetic_corpus"),
    config=("quality.verdict",),
    code=("stages.quality.manifest",),
    group="quality",
    kind="table",
)
LEAST_KEPT, MOST_KEPT = 0.05, 0.98
"""Shares of accepted clips outside of these say more about the filter than about the clips; the paper kept 67.5 %."""


def make(work: Work) -> None:
    from stages.quality.manifest import corpus_manifest

    corpus_manifest(
        work.inputs["quality_labels"],
        work.inputs["synthetic_corpus"],
        work.output,
        work.preset.quality,
        report=lambda facts: work.report({"metrics": facts}),
    )
    table(work, pl.read_parquet(work.output / "summary.parquet"), "verdicts")


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def corpus_manifest(context: dg.AssetExecutionContext) -> Events:
    """One row a clip ever asked for: accepted, or the reason why not, with paths and md5s of its shards."""
    yield from materialise(context, STEP, make)


@dg.asset_check(
    asset=STEP.name,
    blocking=True,
    description=f"Between {LEAST_KEPT:.0%} and {MOST_KEPT:.0%} of the clips are accepted; none accepted blocks.",
)
def share_of_accepted_clips() -> dg.AssetCheckResult:
    folder = paths.data() / STEP.folder(pipeline.current().preset.name)
    accepted = pl.read_parquet(folder / "manifest.parquet", columns=["verdict"])["verdict"] == "accepted"
    share = float(accepted.mean() or 0)  # type: ignore[arg-type]
    return dg.AssetCheckResult(
        passed=LEAST_KEPT <= share <= MOST_KEPT,
        severity=dg.AssetCheckSeverity.ERROR if share == 0 else dg.AssetCheckSeverity.WARN,
        description=f"{share:.1%} of {len(accepted)} clips are accepted",
        metadata={"accepted": int(accepted.sum()), "clips": len(accepted), "share": share},
    )
