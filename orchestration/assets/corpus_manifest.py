"""The verdict on every generated clip, and where its bytes are."""

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import clips_by_score, markdown, table
from orchestration.lineage.drift import drift_since_last
from orchestration.steps import Step, Work

STEP = Step(
    name="corpus_manifest",
    reads=("quality_labels", "synthetic_corpus"),
    config=("quality.verdict",),
    code=("stages.quality.manifest",),
    group="quality",
    kind="table",
)
APART = 0.2
"""Distance between the distributions of two versions, or change of the kept share, that raises an alarm."""


def make(work: Work) -> None:
    from stages.quality.manifest import corpus_manifest, shrinkage

    corpus_manifest(
        work.inputs["quality_labels"],
        work.inputs["synthetic_corpus"],
        work.output,
        work.preset.quality,
        report=work.report,
    )
    manifest = pl.read_parquet(work.output / "manifest.parquet")
    table(work, shrinkage(manifest), "how_the_corpus_shrank")
    clips_by_score(work, manifest, work.inputs["synthetic_corpus"])


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def corpus_manifest(context: dg.AssetExecutionContext) -> Events:
    """One row a clip ever asked for: accepted, or the reason why not, with paths and md5s of its shards."""
    yield from materialise(context, STEP, make)


@dg.asset_check(
    asset=STEP.name,
    blocking=True,
    description="The accepted share lies within quality.verdict.band; none accepted blocks.",
)
def share_of_accepted_clips() -> dg.AssetCheckResult:
    preset = pipeline.current().preset
    folder = paths.data() / STEP.folder(preset.name)
    least, most = preset.quality.verdict.band
    accepted = pl.read_parquet(folder / "manifest.parquet", columns=["verdict"])["verdict"] == "accepted"
    share = float(accepted.mean() or 0)  # type: ignore[arg-type]
    return dg.AssetCheckResult(
        passed=least <= share <= most,
        severity=dg.AssetCheckSeverity.ERROR if share == 0 else dg.AssetCheckSeverity.WARN,
        description=f"{share:.1%} of {len(accepted)} clips are accepted; the band is {least:.0%} to {most:.0%}",
        metadata={"accepted": int(accepted.sum()), "clips": len(accepted), "share": share},
    )


@dg.asset_check(
    asset=STEP.name,
    description=f"Scores, elevations and the kept share are near those of the version before: none is {APART} apart.",
)
def drift() -> dg.AssetCheckResult:
    table = drift_since_last(pipeline.current(), STEP.name)
    if table is None:
        return dg.AssetCheckResult(passed=True, description="there is no version before this one")
    whole = table.filter(pl.col("group").is_in(["all", "median"]))
    apart = whole.with_columns(far=pl.coalesce("distance", pl.col("change").abs())).filter(pl.col("measure") != "clips")
    far = apart.filter(pl.col("far") > APART)
    words = [f"{row['measure']} {row['before']:.3g} -> {row['after']:.3g}" for row in far.to_dicts()]
    return dg.AssetCheckResult(
        passed=not words,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(words) or "near the version before",
        metadata={"drift": dg.MetadataValue.md(markdown(table))},
    )
