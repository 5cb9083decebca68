"""Pools of generated views, some for each prompt, of which the curation takes what agrees."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import every_sample_accounted_for
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import contact_sheet, reasons
from orchestration.steps import Step, Work

STEP = Step(
    name="candidate_views",
    reads=("multiview_model", "video_model", "prompts", "base_models"),
    config=("candidates", "corpus", "rendering"),
    code=("stages.candidates.draw",),
    group="candidates",
    kind="shards",
    shards="prompts",
    unit="pools",
    job="flexiview",
    models=True,
)


def make(work: Work) -> None:
    import polars as pl

    from stages.candidates.draw import candidates_shard

    source = work.inputs["prompts"]
    candidates_shard(
        pl.read_parquet(source / "prompts.parquet"),
        source,
        work.inputs["multiview_model"],
        work.inputs["video_model"],
        work.output,
        work.preset.candidates,
        work.preset.corpus,
        work.preset.rendering,
        seed=work.seed,
        report=work.report,
        versions=work.versions,
        text_to_image=work.inputs["base_models"] / "text_to_image",
    )
    contact_sheet(work, "candidates.tar", views=work.preset.candidates.views + len(work.preset.rings.elevations))
    reasons(work)


@dg.asset(**declared(STEP, kinds={"webdataset", "diffusers"}, pool=DEVICE))
def candidate_views(context: dg.AssetExecutionContext) -> Events:
    """Pools of views as WebDataset shards: some by the multi-view model, an orbit by the video model, one shared."""
    yield from materialise(context, STEP, make)


complete = every_sample_accounted_for(STEP, "candidates.tar", row="prompt")
