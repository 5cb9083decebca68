"""The two trainings of the LRM: on accepted synthetic clips, then on the true views of rendered objects.

pretrain(manifest, clips, masks, encoder, output, scratch, config, *, seed, report, loggers=None)
    -> output/{config.json, model.safetensors, training.parquet}
finetune(manifest, shards, pretrained, output, scratch, config, *, seed, report, loggers=None)
    -> the same, and what a user wants to see: asset.glb, turntable.mp4, metrics.parquet, metrics.json
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints import WEIGHTS, load, load_weights, read_config, save
from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from models.perceptual import Lpips, TokenDistance
from stages.errors import InputError
from stages.evaluation.held_out import baselines, save_figures, single_image
from stages.objects.splits import HELD_OUT, TRAIN
from stages.perceptual import lpips
from stages.reconstruction.config import FinetuneConfig, LossConfig, LRMTrainingConfig, PretrainConfig
from stages.reconstruction.data import Orbits, RayBatch, accepted, draw_rays, rendered_orbits, synthetic_orbits
from stages.reconstruction.export import export
from stages.reconstruction.preflight import posed, tell_memory
from stages.seeds import sample_seed
from stages.training import fit


def pretrain(
    manifest: Path,
    clips: Path,
    masks: Path,
    encoder: Path,
    output: Path,
    scratch: Path,
    config: PretrainConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Train an LRM on the accepted clips of a corpus `manifest`, its image encoder starting from the folder `encoder`.

    Raises ValueError when no clip was accepted or the encoder is not the one that the config describes.
    """
    orbits = synthetic_orbits(accepted(pl.read_parquet(manifest)), clips, masks, config.radius)
    report({"message": f"{len(orbits.ids)} accepted clips"})
    torch.manual_seed(sample_seed(seed, "weights"))
    model = LRM.from_config(config.model)
    if (found := read_config(encoder, EncoderConfig)) != config.model.encoder:
        raise ValueError(
            f"{encoder} holds the encoder {found}, the preset wants {config.model.encoder}; make them agree"
        )
    load_weights(model.encoder, load_file(encoder / WEIGHTS), str(encoder / WEIGHTS))
    curve = train_lrm(model, orbits, config, seed=seed, scratch=scratch, report=report, loggers=loggers)
    save(model, config.model, output)
    curve.write_parquet(output / "training.parquet")


def finetune(
    manifest: Path,
    shards: Path,
    pretrained: Path,
    output: Path,
    scratch: Path,
    config: FinetuneConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Train the LRM in `pretrained` on the training objects of `manifest`; measure it on the held-out ones."""
    table = pl.read_parquet(manifest)
    training, held_out = (rendered_orbits(table, shards, split) for split in (TRAIN, HELD_OUT))
    model = load(pretrained, LRMConfig, LRM.from_config)
    before = single_image(model, held_out, config.protocol, report)
    distance = TokenDistance(model.encoder)  # as it was before training: one measure for all methods
    curve = train_lrm(model, training, config, seed=seed, scratch=scratch, report=report, loggers=loggers)
    save(model, model.config, output)
    curve.write_parquet(output / "training.parquet")
    model.eval()
    after = single_image(model, held_out, config.protocol, report)
    figures = {"lrm_finetuned": after, "lrm_pretrained": before, **baselines(training, held_out, config.protocol)}
    means = save_figures(figures, held_out, config.protocol, output, scratch / "preview", distance)
    report({"metrics": means, "doing": "writing an example"})
    export(model, held_out, config, output)


def train_lrm(
    model: LRM,
    orbits: Orbits,
    config: LRMTrainingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    **where: Any,
) -> pl.DataFrame:
    """Train on rays of the views of `orbits`, as `config` says; returns the curve. `where` is for `fit`.

    Raises InputError where the views are smaller than `config.draws` asks for.
    """
    model.encoder.requires_grad_(config.train_encoder)
    side, draws, steps = orbits.rgb.shape[-1], config.draws, config.training.steps
    if (largest := max((draws.patch, *draws.sizes))) > side:
        raise InputError(f"views are {side} px, but draws.patch or draws.sizes ask for {largest}; match the preset")
    orbits = posed(orbits, model.config.box, report)
    tell_memory(model, config, report)
    distance = perceptual_distance(model, config.losses)
    return fit(
        model,
        lambda lrm, batch, generator: ray_loss(lrm, batch, config.losses, generator, distance),
        lambda generator, step: draw_rays(orbits, config.training.batch, draws, generator, step / steps),
        config.training,
        seed=seed,
        report=report,
        **where,
    )


def perceptual_distance(model: LRM, config: LossConfig) -> TokenDistance | Lpips | None:
    """What the perceptual loss asks, by the image encoder as it is before the training."""
    if not config.perceptual:
        return None
    return TokenDistance(model.encoder) if config.lpips is None else lpips(config.lpips)


def ray_loss(
    lrm: LRM,
    batch: RayBatch,
    config: LossConfig,
    generator: torch.Generator,
    distance: TokenDistance | Lpips | None = None,
) -> dict[str, Tensor]:
    """The weighted sum of the losses on rays, and its parts; `distance` compares patches."""
    seen = lrm.rays(lrm.triplane(batch.image, batch.source), batch.origins, batch.directions, generator)
    errors = pixel_errors(seen.rgb, seen.weight[..., 0], batch.rgb, batch.alpha)
    parts = {name: value.mean() for name, value in errors.items()}
    if distance is not None:
        pair = (_pictures(rgb, batch.patch) for rgb in (seen.rgb, batch.rgb))
        parts["perceptual"] = distance.to(batch.image.device)(*pair).mean()
    return weighted(parts, config)


def pixel_errors(
    rgb: Float[Tensor, "b ... 3"],
    weight: Float[Tensor, "b ..."],
    true: Float[Tensor, "b ... 3"],
    alpha: Float[Tensor, "b ..."],
) -> dict[str, Tensor]:
    """Of every pixel: squared and absolute errors of its colours [b, ..., 3], and of its coverage [b, ...]."""
    error = rgb - true
    return {"squared": error.square(), "absolute": error.abs(), "opacity": (weight - alpha).square()}


def weighted(parts: dict[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    """The parts, and as "loss" their sum with the weights of `config`."""
    total = torch.stack([getattr(config, name) * value for name, value in parts.items()]).sum()
    return {"loss": total, **parts}


def _pictures(rgb: Float[Tensor, "b r 3"], side: int) -> Float[Tensor, "n 3 side side"]:
    """Rays of patches, one after the other, as images."""
    return rgb.unflatten(1, (-1, side, side)).flatten(0, 1).movedim(-1, 1)
