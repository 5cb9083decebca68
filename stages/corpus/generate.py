"""The synthetic corpus: each prompt becomes a first frame, each first frame an orbit clip.

    generate_shard(prompts, meshes, model, output, config, rendering, *, seed, report, version=None)
        -> output/clips.tar, output/quarantine.parquet (id, reason)

Until a text-to-image model draws the first frame, it is a render of the prompt's *training* object, deformed and
recoloured, from a new camera; `parents` and `first_frame` in each sample say so.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from models.camera import Camera
from models.video import VideoModel, load_video
from stages.corpus.config import CorpusConfig
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import MeshError, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator, torch_generator
from stages.shards import Sample, ShardWriter, composite

QUARANTINE = {"id": pl.String, "reason": pl.String}
Drawn = tuple[dict[str, Any], UInt8[np.ndarray, "1 s s 4"]]
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
) -> None:
    """Generate one clip for each row of `prompts` (their `file` is below `meshes`) with the model folder `model`.

    A clip depends on (seed, prompt) and, through floating point, on its batch. A prompt whose first frame cannot be
    drawn or whose clip is not finite is quarantined; no camera is known of a generated clip but its azimuth steps,
    so its elevation is null. `version` of the model is stored with every clip. While one batch is denoised, the next
    one's first frames are drawn and the last one's pictures written.
    """
    torch.set_num_threads(1)
    video = load_video(model).to("cuda" if torch.cuda.is_available() else "cpu")
    rendering = rendering.model_copy(update={"size": video.config.size, "supersampling": config.supersampling})
    how = {**config.sampling.model_dump(mode="json"), "steps": config.steps, "model": version}
    rows = prompts.sort("id").to_dicts()
    batches = [rows[start : start + config.batch] for start in range(0, len(rows), config.batch)]
    quarantine: list[dict[str, str]] = []

    def draw(batch: list[dict[str, Any]]) -> list[Drawn]:
        drawn: list[Drawn] = []
        for row in batch:
            try:
                drawn.append((row, first_frame(row, meshes, config, rendering, seed)))
            except MeshError as error:
                quarantine.append({"id": row["id"], "reason": f"no first frame: {error}"})
        return drawn

    def write(drawn: list[Drawn], clips: Float[Tensor, "n f 3 s s"]) -> None:
        for (row, _), clip in zip(drawn, clips, strict=True):
            if torch.isfinite(clip).all():
                shard.add(_sample(row, clip, rendering, seed, how))
            else:
                quarantine.append({"id": row["id"], "reason": "the clip holds numbers that are not finite"})

    with ShardWriter(output / "clips.tar") as shard, ThreadPoolExecutor(1) as beside:
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
    first = torch.from_numpy(np.concatenate([composite(image) for _, image in drawn]))
    grain, noise = video.draw_noises(torch_generator(seed, row["id"], "noise") for row, _ in drawn)
    grain = None if grain is None else grain.to(video.device)
    return video.sample(first.to(video.device), noise.to(video.device), config.steps, config.sampling, grain).cpu()


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


def _sample(
    row: dict[str, Any], clip: Float[Tensor, "f 3 s s"], rendering: RenderingConfig, seed: int, how: dict[str, Any]
) -> Sample:
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
        "sampling": how,
        "azimuths": [360 / len(frames) * frame for frame in range(len(frames))],  # as asked for, degrees
        "parents": [row["md5"]],
    }
    return Sample(row["id"], np.concatenate((frames, opaque), -1), meta)
