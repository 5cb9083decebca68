"""The data engine's video model: base weights fine-tuned on the orbits of rendered training objects.

finetune(manifest, shards, base, output, scratch, config, *, seed, report, loggers=None)
    -> output/{config.json, weights in the layout of the family, training.parquet}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch

from models.video import VideoModel, load_video
from stages.errors import InputError
from stages.objects.splits import TRAIN
from stages.seeds import sample_seed, torch_generator
from stages.training import fit
from stages.video.clips import draw_clips, read_orbits, told_clips
from stages.video.config import VideoFinetuneConfig
from stages.video.denoising import Latents
from stages.video.figures import clip_figures
from stages.video.latents import LatentBank
from stages.video.trainable import choose, merge

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
    Latents and what clips are told are made once of each view, and kept below `scratch`.
    Raises InputError when the clips of the base model and the rendered views differ in size, and for temporal layers
    where the family has none.
    """
    ids, rings = read_orbits(pl.read_parquet(manifest), shards, TRAIN)
    model = load_video(base)
    settings = model.config
    if rings.shape[-2] != settings.size:
        raise InputError(
            f"views are {rings.shape[-2]} px but {base} makes clips of {settings.size} px; match the preset"
        )
    report({"doing": "encoding views"})
    bank = LatentBank(model, rings, config.denoising, scratch, seed=seed)
    torch.manual_seed(sample_seed(seed, "weights"))  # adapters begin at random
    choose(model, config)

    def draw(generator: torch.Generator, _: int) -> Latents:
        return bank.draw(config.training.batch, generator)

    def measure(trained: VideoModel) -> Mapping[str, float]:
        truth = draw_clips(rings, MEASURED, settings.frames, torch_generator(seed, "measured"))
        noise = torch.randn(MEASURED, *model.latent_shape(), generator=torch_generator(seed, "measured noise"))
        grain = torch.randn(truth[:, 0].shape, generator=torch_generator(seed, "measured grain"))
        first, noise, grain = (tensor.to(trained.device) for tensor in (truth[:, 0], noise, grain))
        return clip_figures(trained.sample(first, noise, config.sampling_steps, config.sampling, grain).cpu(), truth)

    report({"doing": "measuring the model that it begins with"})
    before = {f"before/{name}": value for name, value in measure(model).items()}
    curve = fit(
        model,
        lambda m, batch, generator: m.loss(*batch, config.denoising, generator),
        draw,
        config.training,
        seed=seed,
        scratch=scratch,
        report=report,
        loggers=loggers,
        tell=lambda generator: told_clips(ids, rings, config.training.batch, generator),
        validate=lambda m: {f"after/{name}": value for name, value in measure(m).items()},
    )
    merge(model, config)
    model.save(output)
    rows = [(0, name, value) for name, value in before.items()]
    pl.concat((pl.DataFrame(rows, schema=curve.schema, orient="row"), curve)).write_parquet(output / "training.parquet")
