"""The base text-to-image model: made once on captioned renders, for users without public weights.

    train_text_to_image(objects, meshes, output, scratch, config, *, seed, report, loggers=None)
        -> output/{model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/, training.parquet}

First the image autoencoder, then denoiser and text encoder; a restart with the same scratch resumes either. What it
writes is a pipeline folder as diffusers saves it, weights in float16 safetensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from models.text_to_image import TextToImage, word_tokenizer
from stages.base.captioned import Captions, Pictures, painted, render_pictures
from stages.base.config import TextToImageTrainingConfig
from stages.base.phases import train_part
from stages.config import TrainingConfig
from stages.prompts.vocabulary import read_vocabulary
from stages.seeds import sample_seed
from stages.training import Draw


class Batch(NamedTuple):
    images: Float[Tensor, "n 3 s s"]
    tokens: Int64[Tensor, "n t"]


def train_text_to_image(
    objects: pl.DataFrame,
    meshes: Path,
    output: Path,
    scratch: Path,
    config: TextToImageTrainingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Train on renders of the training objects of `objects` (their `file` is below `meshes`) and of invented ones.

    Raises ValueError when there is no training object.
    """
    pictures = render_pictures(objects, meshes, config.rendering, seed=sample_seed(seed, "pictures"), report=report)
    captions = Captions(read_vocabulary())
    torch.manual_seed(sample_seed(seed, "weights"))
    model = TextToImage(config.model, word_tokenizer(captions.texts(pictures.kinds), config.model.tokens))

    def draws(settings: TrainingConfig) -> Draw:
        return lambda generator, _: draw(pictures, captions, model, config, settings.batch, generator)

    def autoencode(trained: TextToImage, batch: Batch, _: torch.Generator) -> dict[str, Tensor]:
        return reconstruction_loss(trained, batch)

    train = partial(train_part, model, seed=seed, scratch=scratch, report=report, loggers=loggers)
    first = train((model.autoencoder,), autoencode, draws(config.autoencoder), config.autoencoder, "autoencoder")
    parts = (model.text_encoder, model.unet)
    second = train(parts, flow_loss, draws(config.denoiser), config.denoiser, "denoiser")
    model.save(output)
    pl.concat((first, second)).write_parquet(output / "training.parquet")


def draw(
    pictures: Pictures,
    captions: Captions,
    model: TextToImage,
    config: TextToImageTrainingConfig,
    count: int,
    generator: torch.Generator,
) -> Batch:
    """Pictures on white, rare kinds more often than by their number, half of them mirrored; painted in the colour of
    their captions, but for the share that keeps its own."""
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    chosen = torch.from_numpy(np.searchsorted(pictures.chances, rng.random(count)))
    rgba = pictures.rgba[chosen].movedim(-1, 1).float() / 255
    rgb, alpha = rgba[:, :3], rgba[:, 3:]
    drawn = rng.integers(len(captions.colours), size=count)
    own = rng.random(count) < config.own
    table = np.array([colour.rgb for colour in captions.colours])
    colours = np.clip(table[drawn] + rng.normal(0, 0.04, (count, 3)), 0.02, 0.98)
    keep = np.where(own, 1.0, rng.uniform(0, 0.15, count))
    rgb = painted(rgb, alpha, torch.from_numpy(colours).float(), torch.from_numpy(keep).float())
    images = rgb * alpha + 1 - alpha
    mirrored = torch.from_numpy(rng.random(count) < 0.5)[:, None, None, None]
    texts = [
        captions.write(pictures.kinds[n], pictures.details[n], None if its_own else captions.colours[k].word, rng)
        for n, its_own, k in zip(pictures.thing[chosen].tolist(), own, drawn, strict=True)
    ]
    silent = rng.random(count) < config.unconditional
    tokens = model.tokens(["" if empty else text for text, empty in zip(texts, silent, strict=True)])
    return Batch(torch.where(mirrored, images.flip(-1), images), tokens)


def reconstruction_loss(model: TextToImage, batch: Batch) -> dict[str, Tensor]:
    """Squared and absolute error, and the distance of the latents' channels from mean 0 and variance 1."""
    latents = model.encode(batch.images)
    error = 2 * (model.decode(latents) - batch.images)
    colour = error - error.mean(1, keepdim=True)
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    unit = mean.square().mean() + (spread - 1).square().mean()
    loss = error.square().mean() + 0.1 * error.abs().mean() + 2 * colour.square().mean() + 0.05 * unit
    return {"loss": loss, "squared_error": error.square().mean() / 4, "unit": unit}


def flow_loss(model: TextToImage, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
    """Squared error of the velocity, at levels drawn from the logistic of a normal number."""
    with torch.no_grad():
        clean = model.encode(batch.images)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    level = torch.randn(len(clean), generator=generator).sigmoid().to(clean.device)
    mixed = level[:, None, None, None]
    predicted = model.velocity((1 - mixed) * clean + mixed * noise, level, batch.tokens)
    return {"loss": (predicted - (noise - clean)).square().mean()}
