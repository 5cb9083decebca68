"""The base video model: made once on deformed and recoloured training objects, for users without public weights.

    train_video(objects, meshes, output, scratch, config, *, seed, report, loggers=None)
        -> output/{config.json, weights in the layout of the family, training.parquet}

First the frame autoencoder, then the denoiser on its latents; a restart with the same scratch resumes either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.video import VideoModel, build_video
from stages.base.config import VideoTrainingConfig
from stages.base.phases import train_part
from stages.base.views import render_bank
from stages.seeds import sample_seed, torch_generator
from stages.video.clips import draw_clips, draw_motions
from stages.video.denoising import encoded


def train_video(
    objects: pl.DataFrame,
    meshes: Path,
    output: Path,
    scratch: Path,
    config: VideoTrainingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Train on orbits of the training objects of `objects` (their `file` is below `meshes`); write a model folder."""
    rings = render_bank(objects, meshes, config.bank, seed=sample_seed(seed, "bank"), report=report).rgba
    torch.manual_seed(sample_seed(seed, "weights"))
    model = build_video(config.video)
    frames = config.video.frames

    def draw_frames(generator: torch.Generator, _: int) -> Float[Tensor, "n 3 s s"]:
        clips = draw_clips(rings, config.autoencoder.batch, frames, generator)
        some = torch.randint(frames, (len(clips),), generator=generator)
        return clips[torch.arange(len(clips)), some]

    def draw(generator: torch.Generator, _: int) -> Float[Tensor, "n f 3 s s"]:
        return draw_motions(rings, config.denoiser.batch, frames, generator, general=config.general)

    def denoise(
        trained: VideoModel, clips: Float[Tensor, "n f 3 s s"], generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        latents = encoded(trained, clips, config.denoising, generator)
        return trained.loss(*latents, config.denoising, generator)

    def autoencode(trained: VideoModel, frames: Float[Tensor, "n 3 s s"], _: torch.Generator) -> Mapping[str, Tensor]:
        return reconstruction_loss(trained, frames, config.chroma)

    train = partial(train_part, model, seed=seed, scratch=scratch, report=report, loggers=loggers)
    first = train((model.autoencoder,), autoencode, draw_frames, config.autoencoder, "autoencoder")
    model.calibrate(draw_clips(rings, 256, frames, torch_generator(seed, "calibration")).flatten(0, 1))
    second = train((model.denoiser,), denoise, draw, config.denoiser, "denoiser")
    model.save(output)
    pl.concat((first, second)).write_parquet(output / "training.parquet")


def reconstruction_loss(model: VideoModel, frames: Float[Tensor, "n 3 s s"], chroma: float) -> dict[str, Tensor]:
    """Squared and absolute error, colour differences counted `chroma` times more, latents kept small.

    Most objects are nearly grey, so that plain squared error learns brightness and leaves colour for later.
    """
    latents = model.encode(frames[:, None])
    error = 2 * (model.decode(latents)[:, 0] - frames)
    colour = error - error.mean(1, keepdim=True)
    terms = (
        error.square().mean(), 0.1 * error.abs().mean(), chroma * colour.square().mean(), 1e-3 * latents.square().mean()
    )  # fmt: skip
    return {"loss": torch.stack(terms).sum(), "squared_error": terms[0]}
