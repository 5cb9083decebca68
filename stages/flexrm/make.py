"""A FlexRM from rendered rings and curated pools, with what a user wants to see of it.

make_flexrm(rings, ring_views, pools, curated_views, encoder, output, scratch, config, whiteness, *, seed, report,
            loggers=None)
    -> output/{config.json, model.safetensors, training.parquet, splats.ply, asset.glb, turntable.mp4}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from models.camera import Camera
from models.checkpoints import WEIGHTS, save
from models.flexrm_config import VIEWS
from stages.flexrm.asset import ViewsReconstructor
from stages.flexrm.config import FlexRMTrainingConfig
from stages.flexrm.figures import parted
from stages.flexrm.train import build, train_flexrm
from stages.hashing import file_md5
from stages.objects.splits import HELD_OUT, TRAIN
from stages.quality.manifest import ACCEPTED
from stages.quality.masks import foreground
from stages.reconstruction.data import Orbits, on_white, rendered_orbits
from stages.shards import composite, read_shard
from stages.training import Report

SHOWN = 4
"""Input views of what is exported: the four sides of the first held-out object."""


def make_flexrm(
    rings: Path,
    ring_views: Path,
    pools: Path,
    curated_views: Path,
    encoder: Path,
    output: Path,
    scratch: Path,
    config: FlexRMTrainingConfig,
    whiteness: float,
    *,
    seed: int,
    report: Report,
    loggers: list[Any] | None = None,
) -> None:
    """Train on the training objects of `rings` and the accepted pools of `pools` (Parquet files; shards below
    `ring_views` and `curated_views`), the image encoder starting from the folder `encoder`; export one held-out object.

    Raises ValueError when there is no training object, or the encoder is not the one that the config describes.
    """
    manifest = pl.read_parquet(rings)
    training = rendered_orbits(manifest, ring_views, TRAIN)
    curated = curated_orbits(pl.read_parquet(pools), curated_views, whiteness)
    model = build(encoder, config, seed)
    report({"message": f"{len(training.ids)} objects on rings, {len(curated.ids) if curated else 0} curated pools"})
    curve = train_flexrm(model, training, curated, config, seed=seed, scratch=scratch, report=report, loggers=loggers)
    save(model, config.model, output)
    curve.write_parquet(output / "training.parquet")
    shown = manifest.filter((pl.col("split") == HELD_OUT) & pl.col("reason").is_null()).sort("id").head(1)
    held_out = rendered_orbits(shown, ring_views, HELD_OUT)
    views = parted(held_out, config.protocol)[0][:SHOWN]
    made = ViewsReconstructor(model.eval(), file_md5(output / WEIGHTS), config=config.export).from_views(
        held_out.rgb[0, views].float() / 255, held_out.cameras[0][views]
    )
    made.write(output / "asset.glb")
    made.write_splats(output / "splats.ply")
    made.write_turntable(output / "turntable.mp4")


def curated_orbits(pools: pl.DataFrame, folder: Path, whiteness: float) -> Orbits | None:
    """The kept views of the accepted pools, in as many places each as the largest pool has views: smaller ones repeat
    theirs in turn. Coverage is where a view is not white. None when there is no pool."""
    rows = pools.filter(pl.col("verdict") == ACCEPTED)
    if rows.is_empty():
        return None
    wanted = set(rows["id"])
    paths = [folder / shard / "curated.tar" for shard in sorted(set(rows["shard"]))]
    samples = [sample for path in paths for sample in read_shard(path) if sample.id in wanted]
    most = min(2 * VIEWS, max(len(sample.views) for sample in samples))
    rgba, numbers = [], []
    for sample in samples:
        places = np.arange(most) % len(sample.views)
        mask = foreground(composite(sample.views), whiteness)
        rgba.append(np.concatenate((sample.views[..., :3], (mask * 255).astype(np.uint8)[..., None]), -1)[places])
        numbers.append(sample.cameras.numbers()[places])
    rgb, alpha = on_white(torch.from_numpy(np.stack(rgba)))
    return Orbits(
        rgb.contiguous(), alpha.contiguous(), Camera.from_numbers(torch.stack(numbers)), tuple(s.id for s in samples)
    )
