"""Generated orbit clips, one for each prompt."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import every_sample_accounted_for
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import contact_sheet
from orchestration.steps import Step, Work

STEP = Step(
    name="synthetic_corpus",
    reads=("video_model", "prompts", "base_models"),
    config=("corpus", "rendering"),
    code=("stages.corpus.generate",),
    group="video",
    kind="shards",
    shards="prompts",
    unit="clips",
    models=True,
)


def make(work: Work) -> None:
    import polars as pl

    from stages.corpus.generate import generate_shard

    source = work.inputs["prompts"]
    generate_shard(
        pl.read_parquet(source / "prompts.parquet"),
        source,
        work.inputs["video_model"],
        work.output,
        work.preset.corpus,
        work.preset.rendering,
        seed=work.seed,
        report=work.report,
        version=work.versions.get("video_model"),
        text_to_image=work.inputs["base_models"] / "text_to_image",
    )
    contact_sheet(work, "clips.tar")


@dg.asset(**declared(STEP, kinds={"webdataset", "diffusers"}, pool=DEVICE))
def synthetic_corpus(context: dg.AssetExecutionContext) -> Events:
    """Orbit clips as WebDataset shards; a prompt that gives no clip is quarantined with a reason."""
    yield from materialise(context, STEP, make)


complete = every_sample_accounted_for(STEP, "clips.tar")
