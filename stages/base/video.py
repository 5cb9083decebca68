"""The base video model: made once on deformed and recoloured training objects, for users without public weights.

    train_video(objects, meshes, output, scratch, config, *, seed, report, loggers=None)
        -> output/{config.json, model.safetensors, training.parquet}

First the frame autoencoder, then the denoiser on its latents; a restart with the same scratch resumes either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.checkpoints import save
from models.video import VideoModel
from stages.base.config import VideoTrainingConfig
from stages.base.views import render_bank
from stages.seeds import sample_seed, torch_generator
from stages.training import fit
from stages.video.clips import draw_clips
from stages.video.denoising import denoising_loss


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
    model = VideoModel(config.video)
    frames = config.video.frames

    def draw_frames(generator: torch.Generator) -> Float[Tensor, "n 3 s s"]:
        clips = draw_clips(rings, config.autoencoder.part, frames, generator)
        some = torch.randint(frames, (len(clips),), generator=generator)
        return clips[torch.arange(len(clips)), some]

    def draw(generator: torch.Generator) -> Float[Tensor, "n f 3 s s"]:
        return draw_clips(rings, config.denoiser.part, frames, generator, mirror=True)

    def train(part: nn.Module, loss: Any, draw: Any, name: str) -> pl.DataFrame:
        model.requires_grad_(False)
        part.requires_grad_(True)
        settings = getattr(config, name)
        curve = fit(
            model,
            loss,
            draw,
            settings,
            seed=sample_seed(seed, name),
            scratch=scratch / name,
            report=report,
            loggers=loggers,
        )
        return curve.with_columns(name=pl.format("{}/{}", pl.lit(name), "name"))

    first = train(
        model.autoencoder, lambda m, batch, _: reconstruction_loss(m, batch, config.chroma), draw_frames, "autoencoder"
    )
    model.calibrate(draw_clips(rings, 256, frames, torch_generator(seed, "calibration")).flatten(0, 1))
    second = train(model.denoiser, lambda m, batch, g: denoising_loss(m, batch, config.denoising, g), draw, "denoiser")
    save(model, config.video, output)
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
