"""The clips of some prompts as another video model makes them, labelled as the corpus is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from stages.corpus.config import CorpusConfig
from stages.corpus.generate import generate_shard
from stages.quality.config import QualityConfig
from stages.quality.labels import label_shard
from stages.rendering.config import RenderingConfig

SHARD = "remade"


@dataclass(frozen=True)
class Makers:
    """Model folders, and the folder of the prompts and their meshes."""

    video: Path
    text_to_image: Path
    elevation: Path
    classifier: Path
    encoder: Path
    prompts: Path


def remake(
    rows: pl.DataFrame,
    makers: Makers,
    folder: Path,
    corpus: CorpusConfig,
    rendering: RenderingConfig,
    quality: QualityConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> tuple[pl.DataFrame, Path, Path]:
    """Rows of a manifest for the clips with the ids of `rows`, and the folders that their clips and masks are below.

    A clip that could not be made or measured is left out, and said to `report`.
    """
    prompts = pl.read_parquet(makers.prompts / "prompts.parquet").filter(pl.col("id").is_in(rows["id"].to_list()))
    clips, masks = folder / "clips", folder / "labels"
    for each in (clips, masks):
        (each / SHARD).mkdir(parents=True, exist_ok=True)
    generate_shard(
        prompts,
        makers.prompts,
        makers.video,
        clips / SHARD,
        corpus,
        rendering,
        seed=seed,
        report=report,
        text_to_image=makers.text_to_image,
    )
    label_shard(
        clips / SHARD / "clips.tar",
        makers.elevation,
        makers.classifier,
        makers.encoder,
        masks / SHARD,
        quality,
        seed=seed,
        report=report,
    )
    labels = pl.read_parquet(masks / SHARD / "labels.parquet").filter(pl.col("fault").is_null())
    if lost := len(rows) - len(labels):
        report({"message": f"{lost} of {len(rows)} clips could not be made or measured"})
    made = labels.select(
        "id",
        "elevation",
        shard=pl.lit(SHARD),
        clips_path=pl.lit(f"{SHARD}/clips.tar"),
        masks_path=pl.lit(f"{SHARD}/masks.tar"),
    )
    return made, clips, masks
