"""The small pretrained weights that the chain starts from, made by the job `base` and shipped."""

import dagster as dg

from orchestration.artifacts import materialise
from orchestration.assets.checks import loss_is_finite
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import Step, Work

STEP = Step(
    name="base_models",
    reads=("source_objects",),
    config=("base",),
    code=("stages.base.encoder", "stages.base.text_to_image", "stages.base.video"),
    group="base",
    kind="model",
    job="base",
)


def make(work: Work) -> None:
    import polars as pl

    from stages.base.encoder import train_encoder
    from stages.base.text_to_image import train_text_to_image
    from stages.base.video import train_video

    source = work.inputs["source_objects"]
    objects = pl.read_parquet(source / "objects.parquet")
    base = work.preset.base
    trainings = {
        "encoder": (train_encoder, base.encoder),
        "video": (train_video, base.video),
        "text_to_image": (train_text_to_image, base.text_to_image),
    }
    for name, (train, config) in trainings.items():
        if config is None:
            continue
        output, scratch = work.output / name, work.scratch / name
        output.mkdir()
        scratch.mkdir(exist_ok=True)
        train(objects, source, output, scratch, config, seed=work.seed, report=work.report, loggers=work.loggers)
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch", "safetensors"}, pool=DEVICE))
def base_models(context: dg.AssetExecutionContext) -> Events:
    """Image encoder, video and text-to-image model, made of renders alone; the papers start from public weights."""
    yield from materialise(context, STEP, make)


finite = loss_is_finite(STEP)
