"""The synthetic corpus: each prompt becomes a first frame, each first frame an orbit clip.

    generate_shard(prompts, meshes, model, output, config, rendering, *, seed, report, version=None, text_to_image=None)
        -> output/clips.tar, output/quarantine.parquet (id, reason)

The first frame is a render of the prompt's *training* object, deformed and recoloured, from a new camera, or drawn from
the prompt's text, see `stages.corpus.first_frames`; `parents`, `first_frame` and `text_to_image` in each sample say so.
Clips that were made elsewhere are taken as they are, see `stages.corpus.imported`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.video import VideoModel, load_video
from stages.corpus.config import CorpusConfig
from stages.corpus.first_frames import FirstFrames, Frame
from stages.corpus.imported import brought
from stages.rendering.config import RenderingConfig
from stages.seeds import torch_generator
from stages.shards import Sample, ShardWriter, composite

QUARANTINE = {"id": pl.String, "reason": pl.String}
Drawn = tuple[dict[str, Any], Frame]
"""A prompt and its first frame."""


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
    version: str | None = None,
    text_to_image: Path | None = None,
) -> None:
    """Generate one clip for each row of `prompts` (their `file` is below `meshes`) with the model folder `model`.

    `text_to_image` is the pipeline folder that draws first frames where `config.text` names no other.

    A clip depends on (seed, prompt) and, through floating point, on its batch. A prompt whose first frame cannot be
    drawn or whose clip is not finite is quarantined; no camera is known of a generated clip but its azimuth steps,
    so its elevation is null. `version` of the model is stored with every clip. While one batch is denoised, the next
    one's first frames are drawn and the last one's pictures written.
    """
    torch.set_num_threads(1)
    video = load_video(model).to("cuda" if torch.cuda.is_available() else "cpu")
    rendering = rendering.model_copy(update={"size": video.config.size, "supersampling": config.supersampling})
    how = {**config.sampling.model_dump(mode="json"), "steps": config.steps, "model": version}
    frames = FirstFrames(meshes, text_to_image, config, rendering, seed)
    imported, rows = brought(prompts.sort("id").to_dicts(), meshes)
    batches = [rows[start : start + config.batch] for start in range(0, len(rows), config.batch)]
    quarantine: list[dict[str, str]] = []

    def draw(batch: list[dict[str, Any]]) -> list[Drawn]:
        found = list(zip(batch, frames.draw(batch), strict=True))
        quarantine.extend({"id": row["id"], "reason": frame} for row, frame in found if isinstance(frame, str))
        return [(row, frame) for row, frame in found if isinstance(frame, Frame)]

    def write(drawn: list[Drawn], clips: Float[Tensor, "n f 3 s s"]) -> None:
        for (row, frame), clip in zip(drawn, clips, strict=True):
            if torch.isfinite(clip).all():
                shard.add(_sample(row, frame, clip, rendering, seed, how))
            else:
                quarantine.append({"id": row["id"], "reason": "the clip holds numbers that are not finite"})

    with ShardWriter(output / "clips.tar") as shard, ThreadPoolExecutor(1) as beside:
        for sample in imported:
            shard.add(sample)
        coming: list[Future[list[Drawn]]] = [beside.submit(draw, batch) for batch in batches[:1]]
        writing: Future[None] | None = None
        done = 0
        for number, batch in enumerate(batches):
            drawn = coming.pop().result()
            coming += [beside.submit(draw, after) for after in batches[number + 1 : number + 2]]
            clips = _clips(video, drawn, config, seed)
            if writing:
                writing.result()
            writing = beside.submit(write, drawn, clips)
            done += len(batch)
            report({"step": done, "of": len(rows)})
        if writing:
            writing.result()
    table = pl.DataFrame(sorted(quarantine, key=lambda row: row["id"]), schema=QUARANTINE)
    table.write_parquet(output / "quarantine.parquet")


def _clips(video: VideoModel, drawn: list[Drawn], config: CorpusConfig, seed: int) -> Float[Tensor, "n f 3 s s"]:
    if not drawn:
        return torch.empty(0, video.config.frames, 3, video.config.size, video.config.size)
    first = torch.from_numpy(np.concatenate([composite(frame.rgba) for _, frame in drawn]))
    grain, noise = video.draw_noises(torch_generator(seed, row["id"], "noise") for row, _ in drawn)
    grain = None if grain is None else grain.to(video.device)
    return video.sample(first.to(video.device), noise.to(video.device), config.steps, config.sampling, grain).cpu()


def _sample(
    row: dict[str, Any],
    frame: Frame,
    clip: Float[Tensor, "f 3 s s"],
    rendering: RenderingConfig,
    seed: int,
    how: dict[str, Any],
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
        "sampling": how,
        "azimuths": [360 / len(frames) * number for number in range(len(frames))],  # as asked for, degrees
        "parents": [row["md5"]] if row["md5"] else [],
    }
    return Sample(row["id"], np.concatenate((frames, opaque), -1), meta)
