"""The training of a FlexRM: volume rendering of its planes, then Gaussians that start from them (Flex3D).

train_flexrm(model, renders, pools, config, *, seed, scratch, report, loggers=None) -> the curve of both stages
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from models.camera import Camera
from models.checkpoints import WEIGHTS, load_weights, read_config
from models.config import EncoderConfig
from models.flexrm import FlexRM
from models.perceptual import Distance
from models.splatting import splat
from models.triplane import Rendering, Triplane
from stages.base.phases import train_part
from stages.flexrm.config import FlexRMTrainingConfig, ImperfectConfig
from stages.flexrm.data import ViewBatch, draw_views
from stages.flexrm.imperfect import disturbed
from stages.reconstruction.config import LossConfig
from stages.reconstruction.data import Orbits, ray_odds
from stages.reconstruction.train import perceptual_distance, pixel_errors, weighted
from stages.seeds import sample_seed
from stages.training import Report

NOISES = 8191
"""Gaussians that are disturbed unlike one another; further ones, in the grid's order, repeat them. Each part of a batch
draws the whole batch's numbers, and of a million Gaussians those would be 8 GB at `paper`."""


def build(encoder: Path, config: FlexRMTrainingConfig, seed: int) -> FlexRM:
    """A fresh model whose image encoder starts from the folder `encoder`. Raises ValueError when that is another one
    than the config describes."""
    if (found := read_config(encoder, EncoderConfig)) != config.model.encoder:
        raise ValueError(
            f"{encoder} holds the encoder {found}, the preset wants {config.model.encoder}; make them agree"
        )
    torch.manual_seed(sample_seed(seed, "weights"))
    model = FlexRM(config.model)
    own = {name: value for name, value in model.encoder.state_dict().items() if name.startswith("modulation.")}
    load_weights(model.encoder, {**own, **load_file(encoder / WEIGHTS)}, str(encoder / WEIGHTS))
    return model


def train_flexrm(
    model: FlexRM,
    renders: Orbits,
    pools: Orbits | None,
    config: FlexRMTrainingConfig,
    *,
    seed: int,
    scratch: Path,
    report: Report,
    loggers: list[Any] | None = None,
) -> pl.DataFrame:
    """Train on the rings of `renders` and, a share of the steps, on curated `pools`; returns the curve, whose rows are
    called `volume/...` and `gaussians/...`. A restart with the same scratch resumes."""
    distance = perceptual_distance(model, config.losses)
    train = partial(train_part, seed=seed, scratch=scratch, report=report, loggers=loggers)

    def draw(batch: int, generator: torch.Generator) -> ViewBatch:
        curated = bool(torch.rand((), generator=generator) < config.draws.curated)
        return draw_views(pools if curated and pools is not None else renders, batch, config.draws, generator)

    first = train(
        model,
        _parts(model, config, splats=False),
        lambda flexrm, batch, generator: volume_loss(flexrm, batch, config.losses, generator),
        lambda generator, _: draw(config.volume.batch, generator),
        config.volume,
        "volume",
    )
    model.splats.begin(model.synthesizer.decoder)
    second = train(
        model,
        _parts(model, config, splats=True),
        lambda flexrm, batch, generator: splat_loss(flexrm, batch, config, generator, distance),
        lambda generator, _: draw(config.gaussians.batch, generator),
        config.gaussians,
        "gaussians",
    )
    return pl.concat((first, second))


def _parts(model: FlexRM, config: FlexRMTrainingConfig, *, splats: bool) -> list[nn.Module]:
    """What a stage trains."""
    parts = {name: part for name, part in model.named_children() if splats or name != "splats"}
    if not config.train_encoder:
        encoder = parts.pop("encoder")
        if config.model.modulate:
            parts["modulation"] = encoder.get_submodule("modulation")
    return list(parts.values())


def volume_loss(model: FlexRM, batch: ViewBatch, config: LossConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """The first stage: rays through the volume of the planes."""
    rays = batch.rays
    seen = model.rays(model.triplane(rays.image, rays.source), rays.origins, rays.directions, generator)
    return weighted(_terms(seen.rgb, seen.weight[..., 0], rays.rgb, rays.alpha), config)


def splat_loss(
    model: FlexRM,
    batch: ViewBatch,
    config: FlexRMTrainingConfig,
    generator: torch.Generator,
    distance: Distance | None = None,
) -> dict[str, Tensor]:
    """The second stage: Gaussians in whole views, and still the volume, at the weight `config.kept`."""
    rays, size = batch.rays, batch.rgb.shape[-1]
    images = imperfect(model, rays.image, rays.source, config.imperfect, generator)
    planes = model.triplane(images, rays.source)
    seen = splatted(model, planes, batch.cameras, size)
    near = ray_odds(batch.alpha, config.draws.near_object).view_as(batch.alpha)  # what rays are drawn by
    parts = _terms(seen.rgb.movedim(2, -1), seen.weight[:, :, 0], batch.rgb.movedim(2, -1), batch.alpha, near)
    if distance is not None:
        parts["perceptual"] = distance.to(seen.rgb.device)(seen.rgb.flatten(0, 1), batch.rgb.flatten(0, 1)).mean()  # pyright: ignore
    found = weighted(parts, config.losses)
    volume = model.rays(planes, rays.origins, rays.directions, generator)
    kept = weighted(_terms(volume.rgb, volume.weight[..., 0], rays.rgb, rays.alpha), config.losses)["loss"]
    return {**found, "loss": found["loss"] + config.kept * kept, "volume": kept}


def splatted(model: FlexRM, planes: Triplane, cameras: Camera, size: int) -> Rendering:
    """The Gaussians of each object seen by its cameras [n, v]."""
    views = [
        splat(each, cameras[row], size, model.config.background) for row, each in enumerate(model.gaussians(planes))
    ]
    return Rendering(*(torch.stack(parts) for parts in zip(*views, strict=True)))


@torch.no_grad()
def imperfect(
    model: FlexRM,
    images: Float[Tensor, "b v 3 s s"],
    cameras: Camera,
    config: ImperfectConfig,
    generator: torch.Generator,
) -> Float[Tensor, "b v 3 s s"]:
    """Some of the input views as a model would have made them that errs: see `stages.flexrm.imperfect`."""
    b, v = images.shape[:2]
    chosen = torch.rand(b, v, generator=generator) < config.share
    count = model.config.gaussians**3
    sizes = (config.cubes, 7), (min(count, NOISES), 4)
    cubes, each = (torch.randn(b, n, k, generator=generator) for n, k in sizes)
    turn = torch.arange(count) % each.shape[1]
    if not chosen.any():
        return images
    rows = chosen.any(1).nonzero()[:, 0]
    made = images.clone()
    planes = model.triplane(images[rows], cameras[rows])
    for row, clean in zip(rows.tolist(), model.gaussians(planes), strict=True):
        device = clean.positions.device
        bad = disturbed(clean, config, model.config.box, cubes[row].to(device), each[row, turn].to(device))
        some = chosen[row].nonzero()[:, 0]
        made[row, some] = splat(bad, cameras[row][some], images.shape[-1]).rgb.clamp(0, 1).to(images.dtype)
    return made


def _terms(
    rgb: Float[Tensor, "b ... 3"],
    weight: Float[Tensor, "b ..."],
    true: Float[Tensor, "b ... 3"],
    alpha: Float[Tensor, "b ..."],
    odds: Float[Tensor, "b ..."] | None = None,
) -> dict[str, Tensor]:
    """Losses of colours and coverage: means over pixels or, by `odds` that sum to 1 for each object, expectations."""
    errors = pixel_errors(rgb, weight, true, alpha)
    each = {name: value if name == "opacity" else value.mean(-1) for name, value in errors.items()}
    if odds is None:
        return {name: value.mean() for name, value in each.items()}
    return {name: (odds * value).flatten(1).sum(1).mean() for name, value in each.items()}
