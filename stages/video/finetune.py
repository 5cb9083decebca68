"""The data engine's video model: base weights fine-tuned on the orbits of rendered training objects.

finetune(manifest, shards, base, output, scratch, config, *, seed, report, loggers=None)
    -> output/{config.json, model.safetensors, training.parquet}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.checkpoints import load, save
from models.config import VideoConfig
from models.video import VideoModel
from stages.objects.splits import TRAIN
from stages.seeds import torch_generator
from stages.training import fit
from stages.video.clips import draw_clips, read_orbits, told_clips
from stages.video.config import VideoFinetuneConfig
from stages.video.denoising import denoising_loss
from stages.video.figures import clip_figures

MEASURED = 48  # clips behind the figures


def finetune(
    manifest: Path,
    shards: Path,
    base: Path,
    output: Path,
    scratch: Path,
    config: VideoFinetuneConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Fine-tune the denoiser of `base` on the training orbits of `manifest` (a Parquet file; tars below `shards`).

    The curve holds `before/...` and `after/...` figures of clips begun with training views (see `clip_figures`).
    Raises ValueError when the clips of the base model and the rendered views differ in size.
    """
    ids, rings = read_orbits(pl.read_parquet(manifest), shards, TRAIN)
    model = load(base, VideoConfig, VideoModel)
    settings = model.config
    if rings.shape[-2] != settings.size:
        raise ValueError(
            f"views are {rings.shape[-2]} px but {base} makes clips of {settings.size} px; match the preset"
        )
    model.requires_grad_(False)
    model.denoiser.requires_grad_(True)

    def draw(generator: torch.Generator) -> Float[Tensor, "n f 3 s s"]:
        return draw_clips(rings, config.training.part, settings.frames, generator)

    def measure(trained: VideoModel) -> Mapping[str, float]:
        truth = draw_clips(rings, MEASURED, settings.frames, torch_generator(seed, "measured"))
        noise = torch.randn(MEASURED, *model.latent_shape(), generator=torch_generator(seed, "measured noise"))
        return clip_figures(trained.sample(truth[:, 0], noise, config.sampling_steps), truth)

    before = {f"before/{name}": value for name, value in measure(model).items()}
    curve = fit(
        model,
        lambda m, batch, generator: denoising_loss(m, batch, config.denoising, generator),
        draw,
        config.training,
        seed=seed,
        scratch=scratch,
        report=report,
        loggers=loggers,
        tell=lambda generator: told_clips(ids, rings.shape[1], config.training.part, generator),
        validate=lambda m: {f"after/{name}": value for name, value in measure(m).items()},
    )
    save(model, settings, output)
    rows = [(0, name, value) for name, value in before.items()]
    pl.concat((pl.DataFrame(rows, schema=curve.schema, orient="row"), curve)).write_parquet(output / "training.parquet")
