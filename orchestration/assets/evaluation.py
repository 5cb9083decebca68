"""How good the models are on objects that none of them has seen, and what they make of them."""

import dagster as dg
import polars as pl

from orchestration import paths, pipeline
from orchestration.artifacts import materialise
from orchestration.assets.declare import Events, declared
from orchestration.assets.previews import evaluation as preview
from orchestration.evaluated import tell_mlflow
from orchestration.steps import Step, Work

STEP = Step(
    name="evaluation",
    reads=("lrm_finetuned", "lrm_pretrained", "rendered_manifest", "base_models", "source_objects"),
    files=("rendered_views",),
    config=("evaluation", "rendering"),
    code=("stages.evaluation.evaluate",),
    group="evaluation",
    kind="table",
    unit="reconstructions",
)
MODELS = STEP.reads[:2]


def make(work: Work) -> None:
    from stages.evaluation.evaluate import evaluate_models

    means = evaluate_models(
        {"lrm_finetuned": work.inputs["lrm_finetuned"], "lrm_pretrained": work.inputs["lrm_pretrained"]},
        work.inputs["rendered_manifest"] / "manifest.parquet",
        work.inputs["rendered_views"],
        work.inputs["source_objects"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.preset.evaluation,
        work.preset.rendering,
        report=work.report,
    )
    told = means.drop_nulls("mean").select("model", "metric", "mean")
    work.report({"metrics": {f"{model}/{metric}": mean for model, metric, mean in told.iter_rows()}})
    preview(work)


@dg.asset(**declared(STEP, kinds={"parquet", "polars"}))
def evaluation(context: dg.AssetExecutionContext) -> Events:
    """Metrics of every model and baseline on held-out objects with intervals and comparisons, and a gallery."""
    for event in materialise(context, STEP, make):
        yield event
        if isinstance(event, dg.AssetMaterialization):  # the table is committed: MLflow may be told, or be away
            tell_mlflow(pipeline.current(), STEP.name, MODELS, context.log.warning)


@dg.asset_check(
    asset=STEP.name,
    name="every_object_has_every_metric",
    blocking=True,
    description="Each object of the protocol has a row for each method and metric: a value, or the reason for none.",
)
def complete() -> dg.AssetCheckResult:
    here = pipeline.current()
    home = paths.data() / here.preset.name
    table = pl.read_parquet(home / STEP.name / "table.parquet")
    protocol = here.preset.evaluation.protocol
    manifest = pl.read_parquet(home / "rendered_manifest" / "manifest.parquet")
    wanted = manifest.filter(pl.col("reason").is_null() & (pl.col("split") == protocol.split))["object"].n_unique()
    wanted = min(wanted, protocol.most or wanted)
    told = table.group_by("model", "metric").agg(
        pl.col("object").n_unique(), (pl.col("value").is_null() == pl.col("reason").is_null()).sum().alias("untold")
    )
    methods, metrics = told["model"].n_unique(), told["metric"].n_unique()
    short = told.filter((pl.col("object") != wanted) | (pl.col("untold") > 0)).sort("model", "metric")
    wrong = [
        f"{model}: {metric} has rows of {objects} of {wanted} objects, {untold} with neither value nor reason"
        for model, metric, objects, untold in short.iter_rows()
    ]
    if len(told) != methods * metrics:
        wrong.append(f"{methods} methods and {metrics} metrics make {methods * metrics} pairs, {len(told)} are there")
    return dg.AssetCheckResult(
        passed=not wrong and methods > 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(wrong[:3]) or f"{wanted} objects, {methods} methods, {metrics} metrics",
        metadata={"without a value": table["reason"].count()},
    )
