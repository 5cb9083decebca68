"""One small LRM for each point of the scaling experiments, trained and measured."""

from pathlib import Path

import dagster as dg
import polars as pl

from orchestration.artifacts import materialise
from orchestration.assets.declare import DEVICE, Events, declared
from orchestration.assets.previews import loss_curves
from orchestration.steps import POINTS, Step, Work
from orchestration.versions import asset_seed

STEP = Step(
    name="scaling_points",
    reads=(
        "corpus_manifest",
        "rendered_manifest",
        "base_models",
        "prompts",
        "elevation_estimator",
        "quality_classifier",
    ),
    files=("synthetic_corpus", "quality_labels", "rendered_views"),
    # the grid says which points there are; it decides no point's bytes
    config=(
        "scaling.steps",
        "pretrain",
        *(f"finetune.{part}" for part in ("training", "draws", "losses", "train_encoder", "protocol")),
        *("corpus", "rendering", "quality"),
    ),
    code=("stages.scaling.points", "stages.scaling.remake", "stages.scaling.train"),
    group="scaling",
    kind="shards",
    shards=POINTS,
    job="study",
    models=True,
)


def make(work: Work) -> None:
    from stages.scaling.points import BASE, Point
    from stages.scaling.remake import Makers, remake
    from stages.scaling.train import PointConfig, Sources, train_point

    preset, inputs, point = work.preset, work.inputs, Point.of(str(work.shard))
    base = inputs["base_models"]

    def remade(rows: pl.DataFrame) -> tuple[pl.DataFrame, Path, Path]:
        makers = Makers(
            video=base / "video",
            text_to_image=base / "text_to_image",
            elevation=inputs["elevation_estimator"],
            classifier=inputs["quality_classifier"],
            encoder=base / "encoder",
            prompts=inputs["prompts"],
        )
        # first frames as those of the corpus
        seed = asset_seed(preset.seed, "synthetic_corpus")
        folder = work.scratch / "remade"
        return remake(
            rows, makers, folder, preset.corpus, preset.rendering, preset.quality, seed=seed, report=work.report
        )

    train_point(
        point,
        Sources(
            corpus=inputs["corpus_manifest"] / "manifest.parquet",
            clips=inputs["synthetic_corpus"],
            masks=inputs["quality_labels"],
            rendered=inputs["rendered_manifest"] / "manifest.parquet",
            views=inputs["rendered_views"],
            base=base,
        ),
        work.output,
        work.scratch,
        PointConfig(preset.scaling, preset.pretrain, preset.finetune),
        seed=work.seed,
        report=work.report,
        remade=remade if point.video == BASE else None,
    )
    loss_curves(work)


@dg.asset(**declared(STEP, kinds={"pytorch"}, pool=DEVICE))
def scaling_points(context: dg.AssetExecutionContext) -> Events:
    """What small LRMs reach on held-out objects, each from so many synthetic clips and 3D objects of its own."""
    yield from materialise(context, STEP, make)
