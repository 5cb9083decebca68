"""The reconstruction model after the synthetic corpus."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="lrm_pretrained",
    reads=("corpus_manifest", "base_models"),
    files=("synthetic_corpus", "quality_labels"),
    config=("pretrain",),
    code=("stages.reconstruction.train",),
    group="reconstruction",
    kind="model",
)


def make(work: Work) -> None:
    from stages.reconstruction.train import pretrain

    pretrain(
        work.inputs["corpus_manifest"] / "manifest.parquet",
        work.inputs["synthetic_corpus"],
        work.inputs["quality_labels"],
        work.inputs["base_models"] / "encoder",
        work.output,
        work.scratch,
        work.preset.pretrain,
        seed=work.seed,
        report=work.report,
        loggers=work.loggers,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "safetensors"}, pool=DEVICE))
def lrm_pretrained(context: dg.AssetExecutionContext) -> Events:
    """A large reconstruction model that has seen accepted synthetic clips alone."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
