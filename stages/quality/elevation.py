"""The height from which a clip is seen: an MLP on image embeddings (VFusion3D, 2024), told what carving says as well.

    train_elevation(manifest, views, encoder, output, scratch, config, *, seed, report, loggers=None)
        manifest  rendered_manifest's manifest.parquet
        views     folder of rendered_views, one sub-folder a shard, each with views.tar
        -> output/{config.json, model.safetensors, training.parquet}
    load_elevation(folder) -> Elevation;  elevation.degrees(Observation.views) -> (mean, spread over views)

It learns on training objects and is measured on the others, in degrees, beside a predictor that always says the median.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.checkpoints import load, save
from stages.base.images import weathered
from stages.objects.splits import HELD_OUT, TRAIN, VALIDATION
from stages.quality.bending import bent
from stages.quality.carving import ELEVATIONS
from stages.quality.config import ElevationConfig, QualityConfig
from stages.quality.features import load_embedder
from stages.quality.observe import known, look
from stages.rendering.variants import colour_matrix, recoloured
from stages.seeds import numpy_generator, sample_seed, torch_generator
from stages.shards import Sample, composite, read_shard
from stages.training import fit


class ElevationModel(BaseModel):
    """What the arrays of an estimator are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: int
    hidden: int
    dropout: float


class Elevation(nn.Module):
    """Degrees from embeddings; inputs and output are standardised by buffers that are stored with the weights."""

    centre: Tensor
    scale: Tensor
    middle: Tensor
    range: Tensor

    def __init__(self, config: ElevationModel) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(config.features))
        self.register_buffer("scale", torch.ones(config.features))
        self.register_buffer("middle", torch.tensor(0.0))
        self.register_buffer("range", torch.tensor(1.0))
        self.layers = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.features, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, 1),
        )

    def forward(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Elevation in units of the training set's spread around its mean."""
        return self.layers((vectors - self.centre) / self.scale)[:, 0]

    @torch.no_grad()
    def degrees(self, vectors: Float[np.ndarray, "v d"]) -> tuple[float, float]:
        """The clip's elevation and how far its views disagree (standard deviation), both in degrees."""
        views = self(torch.from_numpy(vectors)) * self.range + self.middle
        return float(views.mean()), float(views.std(correction=0))


def load_elevation(folder: Path) -> Elevation:
    return load(folder, ElevationModel, Elevation)


def train_elevation(
    manifest: Path,
    views: Path,
    encoder: Path,
    output: Path,
    scratch: Path,
    config: QualityConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Embed every rendered orbit, train on those of training objects, measure on the rest.

    training.parquet ends with train_mae, validation_mae, held-out_mae (degrees a clip) and <split>_constant, the error
    of always saying the training median. Raises ValueError when no training orbit is there.
    """
    settings = config.elevation
    embedder = load_embedder(config.features, encoder)
    torch.set_num_threads(settings.training.threads)
    orbits: dict[str, list[tuple[np.ndarray, float]]] = {TRAIN: [], VALIDATION: [], HELD_OUT: []}
    vectors, targets = [], []
    listed = pl.scan_parquet(manifest).select(pl.len()).collect().item()
    for number, sample in enumerate(_orbits(manifest, views)):
        split, height = sample.meta["split"], float(sample.meta["elevation"])
        copies = [_clip(sample, settings, seed, copy) for copy in range(settings.copies if split == TRAIN else 1)]
        seen = [known(embedding, profile) for _, embedding, profile in look(embedder, copies, config)]
        orbits[split].append((seen[0], height))
        if split == TRAIN:
            vectors += seen
            targets += [np.full(len(clip), height, dtype=np.float32) for clip in seen]
        report({"step": number + 1, "of": max(number + 1, listed), "doing": "observing orbits"})
    if not vectors:
        raise ValueError(f"{views} holds no rendered orbit of a {TRAIN!r} object; render some first")
    x, y = torch.from_numpy(np.concatenate(vectors)), torch.from_numpy(np.concatenate(targets))

    torch.manual_seed(sample_seed(seed, "weights"))
    shape = ElevationModel(features=x.shape[1], hidden=settings.hidden, dropout=settings.dropout)
    model = Elevation(shape)
    model.centre.copy_(x.mean(0))
    model.scale.copy_(x.std(0).clamp(min=1e-4))
    model.middle.copy_(y.mean())
    model.range.copy_(y.std().clamp(min=1.0))
    goal = (y - model.middle) / model.range

    def draw(generator: torch.Generator, _: int) -> tuple[Tensor, Tensor]:
        chosen, other = torch.randint(len(x), (2, settings.training.batch), generator=generator)
        # the encoder knows the training objects better than it will know any other: do not believe it every time
        doubted = torch.rand(len(chosen), 1, generator=generator) < settings.doubt
        embedding = torch.where(doubted, x[other, : -len(ELEVATIONS)], x[chosen, : -len(ELEVATIONS)])
        return torch.cat((embedding, x[chosen, -len(ELEVATIONS) :]), 1), goal[chosen]

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"loss": (module(batch[0]) - batch[1]).abs().mean()}

    def validate(module: nn.Module) -> Mapping[str, float]:
        assert isinstance(module, Elevation)
        return errors(module, orbits)

    curve = fit(
        model,
        loss,
        draw,
        settings.training,
        seed=seed,
        scratch=scratch,
        report=report,
        loggers=loggers,
        validate=validate,
    )
    save(model, shape, output)
    curve.write_parquet(output / "training.parquet")


def errors(model: Elevation, orbits: Mapping[str, list[tuple[np.ndarray, float]]]) -> dict[str, float]:
    """Mean absolute error a clip, by split, beside that of the training median; splits without orbits are left out."""
    median = float(np.median([height for _, height in orbits[TRAIN]]))
    rows: dict[str, float] = {}
    for split, items in orbits.items():
        if items:
            rows[f"{split}_mae"] = float(np.mean([abs(model.degrees(v)[0] - height) for v, height in items]))
            rows[f"{split}_constant"] = float(np.mean([abs(median - height) for _, height in items]))
            rows[f"{split}_clips"] = len(items)
    return rows


def _orbits(manifest: Path, views: Path) -> Iterator[Sample]:
    """The orbits that the manifest lists, in order of shard and id."""
    listed = set(pl.read_parquet(manifest)["id"])
    for tar in sorted(views.glob("*/views.tar")):
        for sample in read_shard(tar):
            known = sample.id in listed or sample.meta.get("object") in listed
            if known and sample.meta.get("elevation") is not None:
                yield sample


def _clip(sample: Sample, config: ElevationConfig, seed: int, copy: int) -> Float[np.ndarray, "v 3 h w"]:
    """A clip of `config.views` from an orbit; copy 0 as it is. The others are changed in ways that leave the elevation:
    other colours and start, softness, every second time mirrored (which turns the orbit's direction, so the order is
    turned too), otherwise bent like a generated clip."""
    rng = numpy_generator(seed, sample.id, copy)
    stride = max(1, len(sample.views) // config.views)
    if copy == 0:
        return composite(sample.views[::stride])
    views = recoloured(np.roll(sample.views, rng.integers(len(sample.views)), 0)[::stride], colour_matrix(rng, 1.0))
    if copy % 2:
        views = views[::-1, :, ::-1]
    images = composite(views)
    if copy % 2 == 0:
        images = np.stack([bent(view, (0, config.bend), rng) for view in images]).astype(np.float32)
    return weathered(torch.from_numpy(images), torch_generator(seed, sample.id, copy)).numpy()
