"""Training and measuring one point of the scaling experiments.

    train_point(point, sources, output, scratch, config, *, seed, report)
        -> output/metrics.parquet   (id, object, metric, value) on the held-out objects
           output/training.parquet  the curve of both parts, steps counted through

The weights are not kept: what is compared is what was measured, and a point is made again in a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file

from models.checkpoints import WEIGHTS, load_weights
from models.lrm import LRM
from stages.errors import InputError
from stages.evaluation.held_out import figures, single_image
from stages.objects.invented import INVENTED
from stages.objects.splits import HELD_OUT, TRAIN
from stages.quality.manifest import ACCEPTED
from stages.reconstruction.config import FinetuneConfig, PretrainConfig
from stages.reconstruction.data import rendered_orbits, synthetic_orbits
from stages.reconstruction.train import train_lrm
from stages.scaling.config import ScalingConfig
from stages.scaling.points import UNFILTERED, USUAL, Point, nested
from stages.seeds import sample_seed

MEASURED = ("psnr", "foreground_psnr", "iou")


@dataclass(frozen=True)
class Sources:
    """What points learn from: the manifests of the corpus and of the rendered objects, the folders that their paths
    start from, and the base weights.
    """

    corpus: Path
    clips: Path
    masks: Path
    rendered: Path
    views: Path
    base: Path

    @property
    def encoder(self) -> Path:
        return self.base / "encoder"


@dataclass(frozen=True)
class PointConfig:
    """How points are trained."""

    scaling: ScalingConfig
    pretrain: PretrainConfig
    finetune: FinetuneConfig


Clips = Callable[[pl.DataFrame], tuple[pl.DataFrame, Path, Path]]
"""The clips of these rows as another video model makes them: rows, and the folders that their paths start from."""


def train_point(
    point: Point,
    sources: Sources,
    output: Path,
    scratch: Path,
    config: PointConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    remade: Clips | None = None,
) -> None:
    """Train on the point's clips, then on its objects, `scaling.steps` steps in all, and measure held-out objects.

    `remade` makes the clips of a point whose video model is not the corpus's own. Raises InputError where the
    manifests hold fewer clips or objects than the point asks for.
    """
    pretrain, finetune = config.pretrain, config.finetune
    seed = sample_seed(seed, point.seed)
    table = pl.read_parquet(sources.rendered)
    parts = [part for part in (point.clips and "clips", point.objects and "objects") if part]
    steps = config.scaling.steps // len(parts)
    torch.manual_seed(sample_seed(seed, "weights"))
    model = LRM.from_config(pretrain.model)
    load_weights(model.encoder, load_file(sources.encoder / WEIGHTS), str(sources.encoder / WEIGHTS))
    curves: list[pl.DataFrame] = []
    for number, part in enumerate(parts):
        if part == "clips":
            rows = chosen_clips(pl.read_parquet(sources.corpus), point)
            found = remade(rows) if remade else (rows, sources.clips, sources.masks)
            orbits = synthetic_orbits(*found, pretrain.radius)
            how = switched(pretrain, point.strategy)
        else:
            orbits = rendered_orbits(chosen_objects(table, point), sources.views, TRAIN)
            how = finetune
        training = how.training.model_copy(update={"steps": steps})
        curve = train_lrm(
            model,
            orbits,
            how.model_copy(update={"training": training}),
            seed=sample_seed(seed, part),
            scratch=scratch / part,
            report=report,
        )
        curves.append(curve.with_columns(pl.col("step") + number * steps, part=pl.lit(part)))
    held_out = rendered_orbits(table, sources.views, HELD_OUT)
    measured = figures(single_image(model.eval(), held_out, finetune.protocol, report), held_out, finetune.protocol)
    long = measured.select("id", "object", *MEASURED).unpivot(MEASURED, index=["id", "object"], variable_name="metric")
    long.write_parquet(output / "metrics.parquet")
    pl.concat(curves).write_parquet(output / "training.parquet")
    report({"metrics": {name: float(measured[name].mean()) for name in MEASURED}})  # pyright: ignore


def chosen_clips(manifest: pl.DataFrame, point: Point) -> pl.DataFrame:
    """The point's clips: accepted ones, or of all that were labelled."""
    labelled = pl.col("elevation").is_not_null() & pl.col("masks_path").is_not_null()
    usable = labelled if point.kept == UNFILTERED else pl.col("verdict") == ACCEPTED
    return _some(manifest.filter(usable), "id", point.clips, point.seed, f"{point.kept} clips")


def chosen_objects(manifest: pl.DataFrame, point: Point) -> pl.DataFrame:
    """All versions and orbits of the point's training objects; invented ones, which are no 3D data, are left out."""
    rows = manifest.filter(
        (pl.col("split") == TRAIN) & pl.col("reason").is_null() & ~pl.col("object").str.starts_with(INVENTED)
    )
    return _some(rows, "object", point.objects, point.seed, "training objects")


def _some(rows: pl.DataFrame, column: str, count: int, seed: int, what: str) -> pl.DataFrame:
    there = rows[column].unique().to_list()
    if len(there) < count:
        raise InputError(f"the point wants {count} {what}, the manifest has {len(there)}; lower scaling.grid")
    return rows.filter(pl.col(column).is_in(nested(there, count, seed)))


def switched(config: PretrainConfig, strategy: str) -> PretrainConfig:
    """The pre-training with one strategy switched; see `stages.scaling.points.SWITCHES`."""
    draws, losses = config.draws, config.losses
    if strategy == "opacity-off":
        losses = losses.model_copy(update={"opacity": 0.0})
    elif strategy == "camera-noise-off":
        draws = draws.model_copy(update={"camera_noise": 0.0, "height_noise": 0.0, "focal_noise": 0.0})
    elif strategy == "staged-size-on":
        side = config.model.encoder.image_size
        draws = draws.model_copy(update={"sizes": (side // 2, side)})
    elif strategy == "perceptual-on":
        # as many rays as before, in one patch of each view
        patch = max(2, round((draws.rays / draws.side_views) ** 0.5))
        draws = draws.model_copy(update={"patch": patch})
        losses = losses.model_copy(update={"squared": 0.0, "absolute": 0.0, "perceptual": 2.0})
    elif strategy != USUAL:
        raise InputError(f"no strategy {strategy!r}; choose among {USUAL} and those of SWITCHES")
    return config.model_copy(update={"draws": draws, "losses": losses})
