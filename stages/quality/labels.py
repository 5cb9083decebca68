"""Everything measured on one shard of generated clips; the verdict is the manifest's.

    label_shard(clips, elevation, classifier, encoder, output, config, *, seed, report)
        clips       the shard's clips.tar
        elevation, classifier, encoder   model folders
        -> output/labels.parquet    one row a clip: score, threshold, elevation, fault, origin, statistics, and the md5s
                                    of the shard's clips and masks
           output/masks.tar         silhouettes of the clips without fault, `read_shard` gives them as views[..., 3]
           output/features.parquet  id, embedding (mean and spread of the encoder's vectors over the views)

A clip that cannot be read or measured keeps its row, with the reason as `fault` and nulls beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from stages.hashing import file_md5
from stages.quality.carving import ELEVATIONS, photometric
from stages.quality.carving import statistics as carved
from stages.quality.classifier import load_classifier
from stages.quality.clips import ORIGIN, Broken, count_clips, read_clips
from stages.quality.config import FeaturesConfig, QualityConfig
from stages.quality.elevation import load_elevation
from stages.quality.features import agreement, likeness, load_embedder
from stages.quality.masks import MaskWriter
from stages.quality.observe import Observation, observe
from stages.quality.statistics import measure
from stages.shards import Sample

_VIEWS, _NOTHING, _PROFILE = np.ones((2, 3, 4, 4), np.float32), np.zeros((2, 4, 4), bool), np.zeros(len(ELEVATIONS))
STATISTICS = (
    *measure(_VIEWS, _NOTHING),
    *carved(_PROFILE),
    *photometric(_VIEWS, _NOTHING, _PROFILE, FeaturesConfig.model_validate({})),
    *agreement(np.ones((2, 1), dtype=np.float32)),
    *likeness(np.ones((2, 1), dtype=np.float32), np.ones(1, dtype=np.float32)),
)
"""Columns of labels.parquet; those of the caption are null where the preset names no open_clip model."""
SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "score": pl.Float64,
    "threshold": pl.Float64,
    "elevation": pl.Float64,
    "elevation_spread": pl.Float64,
    "fault": pl.String,
    **dict.fromkeys(ORIGIN, pl.String),
    "parents": pl.String,
    **dict.fromkeys(STATISTICS, pl.Float64),
    "clips_md5": pl.String,
    "masks_md5": pl.String,
}


def label_shard(
    clips: Path,
    elevation: Path,
    classifier: Path,
    encoder: Path,
    output: Path,
    config: QualityConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Label every clip of a shard, a batch in memory at a time. Nothing here is random; `seed` is part of every stage's
    signature.

    Raises ValueError when the tar itself is damaged, or when the classifier was trained on another encoder.
    """
    torch.set_num_threads(1)
    embedder, estimator, judge = (
        load_embedder(config.features, encoder),
        load_elevation(elevation),
        load_classifier(classifier),
    )
    rows: list[dict[str, Any]] = []
    count = count_clips(clips)
    features: list[dict[str, Any]] = []

    def label(batch: list[Sample]) -> None:
        observations = observe(embedder, batch, config)
        for sample, seen, score in zip(batch, observations, judge.scores(observations), strict=True):
            rows.append(_row(sample, seen, float(score), estimator.degrees(seen.views), judge.config.threshold))
            masks.add(sample.id, seen.mask, {"cameras": sample.meta["cameras"]})
            features.append({"id": sample.id, "embedding": seen.embedding.astype(np.float32)})
        report({"step": len(rows), "of": count, "message": f"labelled {len(rows)} clips"})

    output.mkdir(parents=True, exist_ok=True)
    batch: list[Sample] = []
    with MaskWriter(output / "masks.tar") as masks:
        for clip in read_clips(clips):
            if isinstance(clip, Broken):
                rows.append({"id": clip.id, "fault": clip.reason})
                report({"message": f"{clips.name}: {clip.id} cannot be read: {clip.reason}"})
                continue
            batch.append(clip)
            if len(batch) == config.features.batch:
                label(batch)
                batch = []
        label(batch)

    md5s = {"clips_md5": file_md5(clips), "masks_md5": file_md5(output / "masks.tar")}
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns(**{name: pl.lit(md5) for name, md5 in md5s.items()})
    table.sort("id").write_parquet(output / "labels.parquet")
    vectors = pl.DataFrame(features, schema={"id": pl.String, "embedding": pl.List(pl.Float32)})
    vectors.sort("id").write_parquet(output / "features.parquet")


def _row(
    sample: Sample, seen: Observation, score: float, height: tuple[float, float], threshold: float
) -> dict[str, Any]:
    return {
        "id": sample.id,
        "score": score,
        "threshold": threshold,
        "elevation": height[0],
        "elevation_spread": height[1],
        "fault": None,
        **{key: sample.meta.get(key) for key in ORIGIN},
        "parents": json.dumps(sample.meta.get("parents")),
        **seen.statistics,
    }
