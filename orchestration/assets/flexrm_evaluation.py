"""What more views bring to FlexRM, and what curation does."""

import json
import shutil
from itertools import pairwise

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import table
from orchestration.steps import Step, Work

STEP = Step(
    name="flexrm_evaluation",
    reads=("flexrm", "ring_manifest", "quality_classifier", "base_models"),
    files=("ring_views",),
    config=("flexrm", "rings", "curation", "quality"),
    code=("stages.curation.curate", "stages.flexrm.evaluate"),
    group="flexiview",
    kind="table",
    job="flexiview",
)


def make(work: Work) -> None:
    from stages.curation.curate import load_curator
    from stages.flexrm.evaluate import evaluate_flexrm

    curate = load_curator(
        work.inputs["quality_classifier"],
        work.inputs["base_models"] / "encoder",
        work.preset.curation,
        work.preset.quality,
    )
    means = evaluate_flexrm(
        work.inputs["flexrm"],
        work.inputs["ring_manifest"] / "manifest.parquet",
        work.inputs["ring_views"],
        work.output,
        work.preset.flexrm,
        work.preset.rings,
        lambda pool: curate(pool).kept.nonzero()[0].tolist(),
        seed=work.seed,
        report=work.report,
    )
    work.report({"metrics": means})
    figures = pl.read_parquet(work.output / "figures.parquet")
    over = pl.col("psnr", "foreground_psnr", "iou").mean()
    table(work, figures.group_by("inputs").agg(pl.col("views", "given").mean(), over).sort("inputs"), "by_inputs")
    clean = figures.filter(pl.col("inputs") == figures["inputs"][0])
    table(work, clean.group_by("views").agg(over).sort("views"), "by_views")
    shutil.copyfile(work.output / "views.png", work.scratch / "preview" / "views.png")


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def flexrm_evaluation(context: dg.AssetExecutionContext) -> Events:
    """FlexRM on held-out objects from 1 to 32 views, and from pools with spoiled views, curated and not."""
    yield from materialise(context, STEP, make)


def _summary() -> dict:
    folder = paths.data() / STEP.folder(pipeline.current().preset.name)
    return json.loads((folder / "summary.json").read_text())


@dg.asset_check(asset=STEP.name, description="Foreground PSNR on held-out objects rises from each number of views.")
def quality_rises_with_views() -> dg.AssetCheckResult:
    found = [(row["views"], row["foreground_psnr"]) for row in _summary()["by_views"]]
    falls = [
        f"{b} views {after:.2f} dB, {a} views {before:.2f}"
        for (a, before), (b, after) in pairwise(found)
        if after <= before
    ]
    return dg.AssetCheckResult(
        passed=not falls,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(falls) or ", ".join(f"{views}: {value:.2f} dB" for views, value in found),
    )


@dg.asset_check(
    asset=STEP.name,
    description="Of pools with half of their views spoiled, FlexRM makes more after curation: the interval of the gain "
    "over objects lies above 0.",
)
def curated_beats_uncurated() -> dg.AssetCheckResult:
    summary = _summary()
    gain, kept = summary["gain"], summary["kept"]
    return dg.AssetCheckResult(
        passed=gain["low"] > 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{gain['mean']:+.2f} dB [{gain['low']:.2f}, {gain['high']:.2f}] over {gain['objects']} objects; "
        f"{kept['spoiled']:.0%} of the spoiled views are kept, {kept['good']:.0%} of the others",
        metadata=summary["pools"],
    )
