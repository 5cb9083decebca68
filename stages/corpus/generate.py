"""The synthetic corpus: each prompt becomes a first frame, each first frame an orbit clip.

    generate_shard(prompts, meshes, model, output, config, rendering, *, seed, report, text_to_image=None)
        -> output/clips.tar, output/quarantine.parquet (id, reason)

The first frame is a render of the prompt's *training* object, deformed and recoloured, from a new camera, or drawn from
the prompt's text, see `stages.corpus.first_frames`; `parents`, `first_frame` and `text_to_image` in each sample say so.
Clips that were made elsewhere are taken as they are, see `stages.corpus.imported`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.checkpoints import load
from models.config import VideoConfig
from models.video import VideoModel
from stages.corpus.config import CorpusConfig
from stages.corpus.first_frames import FirstFrames, Frame
from stages.corpus.imported import brought
from stages.rendering.config import RenderingConfig
from stages.seeds import torch_generator
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
    text_to_image: Path | None = None,
) -> None:
    """Generate one clip for each row of `prompts` (their `file` is below `meshes`) with the model folder `model`.

    `text_to_image` is the pipeline folder that draws first frames where `config.text` names no other.

    A clip depends on (seed, prompt) and, through floating point, on its batch. A prompt whose first frame cannot be
    drawn or whose clip is not finite is quarantined; no camera is known of a generated clip but its azimuth steps,
    so its elevation is null.
    """
    torch.set_num_threads(1)
    video = load(model, VideoConfig, VideoModel)
    rendering = rendering.model_copy(update={"size": video.config.size, "supersampling": config.supersampling})
    frames = FirstFrames(meshes, text_to_image, config, rendering, seed)
    samples, rows = brought(prompts.sort("id").to_dicts(), meshes)
    quarantine: list[dict[str, str]] = []
    for start in range(0, len(rows), config.batch):
        batch = rows[start : start + config.batch]
        found = list(zip(batch, frames.draw(batch), strict=True))
        quarantine += [{"id": row["id"], "reason": frame} for row, frame in found if isinstance(frame, str)]
        drawn = [(row, frame) for row, frame in found if isinstance(frame, Frame)]
        if drawn:
            first = torch.from_numpy(np.concatenate([composite(frame.rgba) for _, frame in drawn]))
            noise = [
                torch.randn(video.latent_shape(), generator=torch_generator(seed, row["id"], "noise"))
                for row, _ in drawn
            ]
            clips = video.sample(first, torch.stack(noise), config.steps)
            for (row, frame), clip in zip(drawn, clips, strict=True):
                if torch.isfinite(clip).all():
                    samples.append(_sample(row, frame, clip, rendering, seed))
                else:
                    quarantine.append({"id": row["id"], "reason": "the clip holds numbers that are not finite"})
        report({"step": min(start + config.batch, len(rows)), "of": len(rows)})
    write_shard(output / "clips.tar", samples)
    pl.DataFrame(quarantine, schema=QUARANTINE).write_parquet(output / "quarantine.parquet")


def _sample(
    row: dict[str, Any], frame: Frame, clip: Float[Tensor, "f 3 s s"], rendering: RenderingConfig, seed: int
) -> Sample:
    frames = (clip.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).numpy()
    opaque = np.full((*frames.shape[:-1], 1), 255, dtype=np.uint8)
    meta = {
        # a level orbit: the true elevation is estimated by the quality labels
        "cameras": Camera.orbit(len(frames), 0.0, rendering.radius, rendering.focal).numbers().tolist(),
        "elevation": None,
        "radius": rendering.radius,
        "caption": frame.text,
        "licence": row["licence"],
        "creator": row["creator"],
        "object": row["object"],
        "first_frame": frame.how,
        "text_to_image": frame.model,
        "split": "synthetic",
        "seed": seed,
        "parents": [row["md5"]] if row["md5"] else [],
    }
    return Sample(row["id"], np.concatenate((frames, opaque), -1), meta)
