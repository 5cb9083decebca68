"""The base image encoder: a small Dinov2 that knows objects and shapes, made from renders alone.

    train_encoder(objects, meshes, output, scratch, config, *, seed, report, loggers=None)
        -> output/{config.json, model.safetensors, training.parquet}

Four lessons at once, about an hour and a half on one core at tiny width. The class token matches two views of one
object among many (NT-Xent, SimCLR, arXiv 2002.05709), so that it says *what* is seen. The patch tokens predict what the
renderer knows of every pixel (coverage, depth, normals to the camera and to the sky, height), so that they say *what
shape stands where*, and which places along the pixel's ray are solid, so that they say what stands behind it. All
tokens together predict the camera's elevation. The heads are thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from models.camera import Camera
from models.checkpoints import save
from models.encoder import Encoder
from stages.base.config import EncoderTrainingConfig
from stages.base.images import summary, weathered
from stages.base.views import HALF, Bank, render_bank
from stages.rendering.config import RenderingConfig
from stages.seeds import sample_seed, torch_generator
from stages.training import fit

DEPTH, NORMAL, HEIGHT = slice(0, 1), slice(1, 5), slice(5, 6)
"""The channels that are taught inside silhouettes; the normal in camera axes is followed by its rise to the sky."""


class Pairs(NamedTuple):
    """Two views of each of n things, all first views first, and what the renderer knows of them.

    `solid` is 1 where the rays of some `pixels` (row by row numbers) pass solid space.
    """

    images: Float[Tensor, "m 3 h w"]
    alpha: Float[Tensor, "m h w"]
    geometry: Float[Tensor, "m 6 h w"]
    elevation: Float[Tensor, " m"]
    pixels: Int64[Tensor, "m c"]
    solid: Float[Tensor, "m c d"]


class Pupil(nn.Module):
    """The encoder and the heads that teach it."""

    def __init__(self, config: EncoderTrainingConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder)
        width, self.patch = config.encoder.width, config.encoder.patch
        self.match = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 64))
        self.dense = nn.Linear(width, 7 * self.patch**2)
        self.solid = nn.Linear(width, config.depths * self.patch**2)
        self.tilt = nn.Linear(3 * width, 1)
        # The stock 0.02 suits width 768. With unit gain a narrow model learns faster: match loss 0.47 instead of 0.90
        # after 400 steps at width 96.
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        nn.init.normal_(self.encoder.model.embeddings.position_embeddings, std=0.5)
        nn.init.normal_(self.encoder.model.embeddings.cls_token, std=0.5)

    def forward(
        self, images: Float[Tensor, "m 3 h w"]
    ) -> tuple[Float[Tensor, "m 64"], Float[Tensor, "m 7 h w"], Float[Tensor, "m d h w"], Float[Tensor, " m"]]:
        """Unit vectors to match, coverage logits and geometry of every pixel, logits of solid space along its ray,
        elevation in standard deviations."""
        tokens = self.encoder(images)  # [m, 1 + patches, width]
        embedding = F.normalize(self.match(tokens[:, 0]), dim=-1)
        dense, columns = (self._pixels(head(tokens[:, 1:]), images.shape[-2:]) for head in (self.dense, self.solid))
        return embedding, dense, columns, self.tilt(summary(tokens))[:, 0]

    def _pixels(self, patches: Float[Tensor, "m patches cpp"], size: torch.Size) -> Float[Tensor, "m c h w"]:
        return F.fold(patches.transpose(1, 2), size, kernel_size=self.patch, stride=self.patch)


def train_encoder(
    objects: pl.DataFrame,
    meshes: Path,
    output: Path,
    scratch: Path,
    config: EncoderTrainingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Train on the training objects of `objects` (their `file` is below `meshes`) and write a model folder.

    Raises ValueError when no training object can be rendered. An interrupted call with the same `scratch` resumes.
    """
    bank = render_bank(objects, meshes, config.bank, seed=sample_seed(seed, "bank"), report=report)
    torch.manual_seed(sample_seed(seed, "weights"))
    pupil = Pupil(config)

    def draw(generator: torch.Generator) -> Pairs:
        return draw_pairs(bank, config, generator)

    def loss(model: nn.Module, batch: Pairs, generator: torch.Generator) -> Mapping[str, Tensor]:
        return lesson(model, batch, generator, config)

    def validate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, Pupil)
        return {"retrieval": retrieval(model.encoder, *other_views(bank, torch_generator(seed, "validation")))}

    curve = fit(
        pupil,
        loss,
        draw,
        config.training,
        seed=seed,
        scratch=scratch,
        report=report,
        loggers=loggers,
        validate=validate,
    )
    save(pupil.encoder, config.encoder, output)
    curve.write_parquet(output / "training.parquet")


def draw_pairs(bank: Bank, config: EncoderTrainingConfig, generator: torch.Generator) -> Pairs:
    """Two views, of any orbits, of each of `batch` different versions of objects."""
    variants = bank.variant.unique()
    chosen = variants[torch.randperm(len(variants), generator=generator)[: config.training.part]]
    per_variant = len(bank.variant) // len(variants)  # orbits of one version lie side by side
    first = torch.searchsorted(bank.variant, chosen)
    orbit = (first + torch.randint(per_variant, (2, len(chosen)), generator=generator)).flatten()
    view = torch.randint(bank.rgba.shape[1], (2, len(chosen)), generator=generator).flatten()
    images, alpha = bank.images(orbit, view)
    elevation = bank.elevation[orbit]
    depth, normals = bank.depth[orbit, view].float(), bank.normals[orbit, view].float()
    rendering = config.bank.rendering
    low, high = rendering.elevation
    spread = max((high - low) / math.sqrt(12), 1.0)
    pixels, solid = _columns(bank, orbit, view, alpha, config, generator)
    return Pairs(
        images,
        alpha,
        geometry(depth, normals, elevation, rendering),
        (elevation - (low + high) / 2) / spread,
        pixels,
        solid,
    )


def _columns(
    bank: Bank,
    orbit: Int64[Tensor, " m"],
    view: Int64[Tensor, " m"],
    alpha: Float[Tensor, "m h w"],
    config: EncoderTrainingConfig,
    generator: torch.Generator,
) -> tuple[Int64[Tensor, "m c"], Float[Tensor, "m c d"]]:
    """Some pixels on and beside the object, and what is solid at even depths around the origin's along their rays."""
    side, grid, rendering = alpha.shape[-1], config.bank.grid, config.bank.rendering
    near = F.max_pool2d(alpha[:, None], 3, 1, 1).flatten(1) > 0
    pixels = torch.multinomial(near + 1e-4, config.columns, generator=generator)
    if not grid:
        return pixels, alpha.new_zeros(*pixels.shape, config.depths)
    azimuth = torch.deg2rad(bank.azimuth[orbit] + view * (360 / rendering.views))
    height = torch.deg2rad(bank.elevation[orbit])
    flat = torch.stack((height.cos() * azimuth.cos(), height.cos() * azimuth.sin(), height.sin()), -1)
    pose = Camera.look_at(rendering.radius * flat).pose[:, None, None]
    depth = rendering.radius + HALF * ((torch.arange(config.depths) + 0.5) / config.depths * 2 - 1)
    across = ((pixels % side + 0.5) / side - 0.5) / rendering.focal
    down = ((pixels.div(side, rounding_mode="floor") + 0.5) / side - 0.5) / rendering.focal
    local = torch.stack((across, -down, -torch.ones_like(down)), -1)[:, :, None] * depth[:, None]  # [m, c, d, 3]
    points = (pose[..., :3, :3] @ local[..., None])[..., 0] + pose[..., :3, 3]
    x, y, z = ((points / HALF + 1) / 2 * grid).long().clamp(0, grid - 1).unbind(-1)
    cell = (x * grid + y) * grid + z
    packed = bank.solid[bank.variant[orbit]].gather(1, (cell // 8).flatten(1)).view(cell.shape)
    bit = (packed.long() >> (7 - cell % 8)) & 1
    return pixels, torch.where((points.abs() < HALF).all(-1), bit, 0).float()


def geometry(
    depth: Float[Tensor, "m h w"],
    normals: Float[Tensor, "m h w 3"],
    elevation: Float[Tensor, " m"],
    rendering: RenderingConfig,
) -> Float[Tensor, "m 6 h w"]:
    """Per pixel: depth relative to the orbit's radius, normal in camera axes, its rise to the sky, height in the world.

    Rise and height tie every pixel to the camera's elevation (degrees), which a single number an image hardly teaches.
    """
    turn = torch.deg2rad(elevation)[:, None, None]
    side = depth.shape[-1]
    down = (torch.arange(side, dtype=depth.dtype) + 0.5)[:, None] / side - 0.5
    up = -down / rendering.focal * (depth + rendering.radius)
    height = up * turn.cos() - depth * turn.sin()
    rise = normals[..., 1] * turn.cos() + normals[..., 2] * turn.sin()
    return torch.stack((depth, *normals.unbind(-1), rise, height), 1)


def lesson(
    model: nn.Module, batch: Pairs, generator: torch.Generator, config: EncoderTrainingConfig
) -> dict[str, Tensor]:
    """The weighted sum of the lessons and its parts."""
    embedding, dense, columns, tilt = model(weathered(batch.images, generator))
    inside = batch.alpha > 0.5
    error = (dense[:, 1:] - batch.geometry).abs().movedim(1, -1)[inside]  # [pixels, 6]
    parts = {
        "coverage": F.binary_cross_entropy_with_logits(dense[:, 0], batch.alpha),
        "depth": error[:, DEPTH].mean(),
        "normals": error[:, NORMAL].mean(),
        "height": error[:, HEIGHT].mean(),
        "match": nt_xent(embedding, config.temperature),
        "tilt": (tilt - batch.elevation).abs().mean(),
    }
    if config.bank.grid:
        of_pixels = batch.pixels[:, None].expand(-1, columns.shape[1], -1)
        seen = columns.flatten(2).gather(2, of_pixels).transpose(1, 2)  # [m, c, d]
        parts["solid"] = F.binary_cross_entropy_with_logits(seen, batch.solid)
    weights = {"match": config.contrast, "tilt": config.tilt, "solid": config.solid}
    total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
    return {"loss": total, **parts}


def nt_xent(embedding: Float[Tensor, "m d"], temperature: float) -> Float[Tensor, ""]:
    """Cross entropy of finding the other view of the same thing among all m - 1 other views."""
    m = len(embedding)
    similarity = embedding @ embedding.T / temperature
    similarity = similarity.masked_fill(torch.eye(m, dtype=torch.bool, device=embedding.device), -torch.inf)
    partner = torch.arange(m, device=embedding.device).roll(m // 2)
    return F.cross_entropy(similarity, partner)


def other_views(
    bank: Bank, generator: torch.Generator, count: int = 256
) -> tuple[Float[Tensor, "q 3 h w"], Float[Tensor, "q 3 h w"], Int64[Tensor, " q"]]:
    """Pairs of different views of one orbit, and the object of each pair."""
    count = min(count, len(bank.object))
    orbit = torch.randperm(len(bank.object), generator=generator)[:count]
    views = bank.rgba.shape[1]
    view = torch.randint(views, (count,), generator=generator)
    other = (view + torch.randint(1, views, (count,), generator=generator)) % views
    return bank.images(orbit, view)[0], bank.images(orbit, other)[0], bank.object[orbit]


@torch.no_grad()
def retrieval(
    encoder: nn.Module,
    queries: Float[Tensor, "q 3 h w"],
    gallery: Float[Tensor, "q 3 h w"],
    owner: Int64[Tensor, " q"],
) -> float:
    """How often the class token nearest to a query's, among the gallery, is that of a view of the same object."""
    a, b = (F.normalize(encoder(images)[:, 0], dim=-1) for images in (queries, gallery))
    return (owner[(a @ b.T).argmax(1)] == owner).float().mean().item()
