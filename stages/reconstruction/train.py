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
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints import WEIGHTS, load, load_weights, read_config, save
from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from stages.evaluation.held_out import baselines, save_figures, single_image
from stages.objects.splits import HELD_OUT, TRAIN
from stages.reconstruction.config import FinetuneConfig, LossConfig, PretrainConfig
from stages.reconstruction.data import Orbits, RayBatch, draw_rays, rendered_orbits, synthetic_orbits
from stages.reconstruction.export import export
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
    orbits = synthetic_orbits(pl.read_parquet(manifest), clips, masks, config.radius)
    report({"message": f"{len(orbits.ids)} accepted clips"})
    torch.manual_seed(sample_seed(seed, "weights"))
    model = LRM.from_config(config.model)
    if (found := read_config(encoder, EncoderConfig)) != config.model.encoder:
        raise ValueError(
            f"{encoder} holds the encoder {found}, the preset wants {config.model.encoder}; make them agree"
        )
    load_weights(model.encoder, load_file(encoder / WEIGHTS), str(encoder / WEIGHTS))
    curve = _train(model, orbits, config, seed=seed, scratch=scratch, report=report, loggers=loggers)
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
    before = single_image(model, held_out, config.protocol)
    curve = _train(model, training, config, seed=seed, scratch=scratch, report=report, loggers=loggers)
    save(model, model.config, output)
    curve.write_parquet(output / "training.parquet")
    model.eval()
    after = single_image(model, held_out, config.protocol)
    figures = {"lrm_finetuned": after, "lrm_pretrained": before, **baselines(training, held_out, config.protocol)}
    means = save_figures(figures, held_out, config.protocol, output, scratch / "preview")
    report({"metrics": means})
    export(model, held_out, config, output)


def _train(
    model: LRM, orbits: Orbits, config: PretrainConfig | FinetuneConfig, *, seed: int, **where: Any
) -> pl.DataFrame:
    model.encoder.requires_grad_(config.train_encoder)
    return fit(
        model,
        lambda lrm, batch, generator: ray_loss(lrm, batch, config.losses, generator),
        lambda generator: draw_rays(orbits, config.training.part, config.draws, generator),
        config.training,
        seed=seed,
        **where,
    )


def ray_loss(lrm: LRM, batch: RayBatch, config: LossConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """The weighted sum of the losses on rays, and its parts."""
    seen = lrm.rays(lrm.triplane(batch.image, batch.source), batch.origins, batch.directions, generator)
    error = seen.rgb - batch.rgb
    parts = {
        "squared": error.square().mean(),
        "absolute": error.abs().mean(),
        "opacity": (seen.weight[..., 0] - batch.alpha).square().mean(),
    }
    weights = config.model_dump()
    return {"loss": torch.stack([weights[name] * value for name, value in parts.items()]).sum(), **parts}
