"""The synthetic corpus: each prompt becomes a first frame, each first frame an orbit clip.

    generate_shard(prompts, meshes, model, output, config, rendering, *, seed, report)
        -> output/clips.tar, output/quarantine.parquet (id, reason)

Until a text-to-image model draws the first frame, it is a render of the prompt's *training* object, deformed and
recoloured, from a new camera; `parents` and `first_frame` in each sample say so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from models.camera import Camera
from models.checkpoints import load
from models.config import VideoConfig
from models.video import VideoModel
from stages.corpus.config import CorpusConfig
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import MeshError, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator, torch_generator
from stages.shards import Sample, composite, write_shard

QUARANTINE = {"id": pl.String, "reason": pl.String}


def generate_shard(
    prompts: pl.DataFrame,
    meshes: Path,
    model: Path,
    output: Path,
    config: CorpusConfig,
    rendering: RenderingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Generate one clip for each row of `prompts` (their `file` is below `meshes`) with the model folder `model`.

    A clip depends on (seed, prompt) and, through floating point, on its batch. A prompt whose first frame cannot be
    drawn or whose clip is not finite is quarantined; no camera is known of a generated clip but its azimuth steps,
    so its elevation is null.
    """
    torch.set_num_threads(1)
    video = load(model, VideoConfig, VideoModel)
    rendering = rendering.model_copy(update={"size": video.config.size, "supersampling": config.supersampling})
    rows = prompts.sort("id").to_dicts()
    samples: list[Sample] = []
    quarantine: list[dict[str, str]] = []
    for start in range(0, len(rows), config.batch):
        drawn: list[tuple[dict[str, Any], UInt8[np.ndarray, "1 s s 4"]]] = []
        for row in rows[start : start + config.batch]:
            try:
                drawn.append((row, first_frame(row, meshes, config, rendering, seed)))
            except MeshError as error:
                quarantine.append({"id": row["id"], "reason": f"no first frame: {error}"})
        if drawn:
            first = torch.from_numpy(np.concatenate([composite(image) for _, image in drawn]))
            noise = [
                torch.randn(video.latent_shape(), generator=torch_generator(seed, row["id"], "noise"))
                for row, _ in drawn
            ]
            clips = video.sample(first, torch.stack(noise), config.steps)
            for (row, _), clip in zip(drawn, clips, strict=True):
                if torch.isfinite(clip).all():
                    samples.append(_sample(row, clip, rendering, seed))
                else:
                    quarantine.append({"id": row["id"], "reason": "the clip holds numbers that are not finite"})
        report({"step": min(start + config.batch, len(rows)), "of": len(rows)})
    write_shard(output / "clips.tar", samples)
    pl.DataFrame(quarantine, schema=QUARANTINE).write_parquet(output / "quarantine.parquet")


def first_frame(
    row: dict[str, Any], meshes: Path, config: CorpusConfig, rendering: RenderingConfig, seed: int
) -> UInt8[np.ndarray, "1 s s 4"]:
    """The prompt's object, deformed and recoloured by the prompt's seed, from a camera that no training view has."""
    rng = numpy_generator(seed, row["id"], row["seed"])
    mesh = load_mesh(meshes / row["file"], rendering).stretched(draw_scale(rng, config.stretch), rendering.fit)
    colours = colour_matrix(rng, config.recolour)
    camera = Camera.orbit(
        1, rng.uniform(*config.elevation), rendering.radius, rendering.focal, azimuth=rng.uniform(0, 360)
    )
    return recoloured(render(mesh, camera, rendering).rgba, colours)


def _sample(row: dict[str, Any], clip: Float[Tensor, "f 3 s s"], rendering: RenderingConfig, seed: int) -> Sample:
    frames = (clip.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).numpy()
    opaque = np.full((*frames.shape[:-1], 1), 255, dtype=np.uint8)
    meta = {
        # a level orbit: the true elevation is estimated by the quality labels
        "cameras": Camera.orbit(len(frames), 0.0, rendering.radius, rendering.focal).numbers().tolist(),
        "elevation": None,
        "radius": rendering.radius,
        "caption": row["text"],
        "licence": row["licence"],
        "creator": row["creator"],
        "object": row["object"],
        "first_frame": "render of a training object, deformed and recoloured",
        "split": "synthetic",
        "seed": seed,
        "parents": [row["md5"]],
    }
    return Sample(row["id"], np.concatenate((frames, opaque), -1), meta)
