"""How well a video model circles objects that it sees from new cameras, or has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.config import SamplingConfig
from models.video import VideoModel
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import load_mesh
from stages.rendering.rasterise import render
from stages.seeds import numpy_generator, torch_generator
from stages.shards import composite


def orbits_from_new_cameras(
    objects: pl.DataFrame, meshes: Path, rendering: RenderingConfig, *, frames: int, copies: int, seed: int
) -> tuple[Float[Tensor, "n f 3 s s"], Camera]:
    """`copies` orbits of each object as it is, at elevations and starting azimuths that no training view has.

    `file` is below `meshes`. Returns the clips and their cameras [n, f]. Raises MeshError for an object that cannot be
    rendered.
    """
    clips, numbers = [], []
    for row in objects.sort("id").to_dicts():
        mesh = load_mesh(meshes / row["file"], rendering)
        for copy in range(copies):
            rng = numpy_generator(seed, "new cameras", row["id"], copy)
            elevation, azimuth = rng.uniform(*rendering.elevation), rng.uniform(0, 360)
            cameras = Camera.orbit(frames, elevation, rendering.radius, rendering.focal, azimuth)
            clips.append(composite(render(mesh, cameras, rendering).rgba))
            numbers.append(cameras.numbers())
    return torch.from_numpy(np.stack(clips)), Camera.from_numbers(torch.stack(numbers))


def generated(
    model: VideoModel,
    truth: Float[Tensor, "n f 3 s s"],
    *,
    steps: int,
    seed: int,
    settings: SamplingConfig = SamplingConfig(),  # noqa: B008  # pyright: ignore[reportCallIssue]
) -> Float[Tensor, "n f 3 s s"]:
    """A clip from the first frame of each of the `truth`, from noise of its own."""
    grain, noise = model.draw_noises(torch_generator(seed, "clip", k) for k in range(len(truth)))
    return model.sample(truth[:, 0], noise, steps, settings, grain)
