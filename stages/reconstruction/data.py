"""Orbits of views in memory, and the batches of rays that trainings draw from them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from models.camera import Camera
from stages.quality.manifest import ACCEPTED
from stages.reconstruction.config import DrawConfig
from stages.shards import read_shard


@dataclass(frozen=True)
class Orbits:
    """RGB on white and coverage in 0..255, and the camera of every view."""

    rgb: UInt8[Tensor, "n v 3 s s"]
    alpha: UInt8[Tensor, "n v s s"]
    cameras: Camera
    ids: tuple[str, ...]

    def views(self, rows: Int64[Tensor, "*b"], views: Int64[Tensor, "*b"]) -> tuple[Tensor, Tensor, Camera]:
        """Images [*b 3 s s] and coverage [*b s s] in 0..1, and their cameras."""
        return self.rgb[rows, views].float() / 255, self.alpha[rows, views].float() / 255, self.cameras[rows, views]


@dataclass(frozen=True)
class RayBatch:
    """Input images with their cameras, and the rays that supervise them, in the input camera's world.

    With a `patch`, rays are those of one square of so many pixels a side in each supervised view, row by row.
    """

    image: Float[Tensor, "b 3 s s"]
    source: Camera
    origins: Float[Tensor, "b r 3"]
    directions: Float[Tensor, "b r 3"]
    rgb: Float[Tensor, "b r 3"]
    alpha: Float[Tensor, "b r"]
    patch: int = 0

    def to(self, *args: Any, **kwargs: Any) -> RayBatch:
        """On another device: what Lightning asks of a batch."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "patch"}
        return replace(self, **{name: part.to(*args, **kwargs) for name, part in tensors.items()})


def rendered_orbits(manifest: pl.DataFrame, shards: Path, split: str) -> Orbits:
    """The rendered orbits of one split; `shards` holds `<shard>/views.tar`. Raises ValueError when there are none."""
    rows = manifest.filter((pl.col("split") == split) & pl.col("reason").is_null())
    if rows.is_empty():
        raise ValueError(f"the manifest has no rendered object in split {split!r}: {len(manifest)} rows")
    wanted = set(rows["id"])
    paths = [shards / shard / "views.tar" for shard in sorted(set(rows["shard"]))]
    samples = [sample for path in paths for sample in read_shard(path) if sample.id in wanted]
    numbers = torch.stack([sample.cameras.numbers() for sample in samples])
    return _orbits([s.views for s in samples], numbers, [s.id for s in samples])


def accepted(manifest: pl.DataFrame) -> pl.DataFrame:
    """The accepted clips of a corpus manifest. Raises ValueError when there are none."""
    rows = manifest.filter(pl.col("verdict") == ACCEPTED)
    if rows.is_empty():
        raise ValueError(f"none of {len(manifest)} clips was accepted; look at their reasons in the corpus manifest")
    return rows


def synthetic_orbits(rows: pl.DataFrame, clips: Path, masks: Path, radius: float) -> Orbits:
    """The clips of these rows of a corpus manifest, with the cameras of their estimated elevation and the masks as
    coverage. `clips` and `masks` are the folders that `clips_path` and `masks_path` start from.
    """
    views, numbers, ids = [], [], []
    for (clips_path, masks_path), part in rows.sort("shard", "id").group_by(
        "clips_path", "masks_path", maintain_order=True
    ):
        elevations = dict(part.select("id", "elevation").iter_rows())
        silhouettes = {s.id: s.views[..., 3] for s in read_shard(masks / str(masks_path)) if s.id in elevations}
        for sample in read_shard(clips / str(clips_path)):
            if sample.id in elevations:
                focal = float(sample.cameras.intrinsics[0, 0])
                cameras = Camera.orbit(len(sample.views), elevations[sample.id], radius, focal)
                views.append(np.concatenate((sample.views[..., :3], silhouettes[sample.id][..., None]), -1))
                numbers.append(cameras.numbers())
                ids.append(sample.id)
    return _orbits(views, torch.stack(numbers), ids)


def _orbits(views: list[UInt8[np.ndarray, "v h w 4"]], numbers: Float[Tensor, "n v 16"], ids: list[str]) -> Orbits:
    rgb, alpha = on_white(torch.from_numpy(np.stack(views)))
    return Orbits(rgb.contiguous(), alpha.contiguous(), Camera.from_numbers(numbers), tuple(ids))


def on_white(rgba: UInt8[Tensor, "*v h w 4"]) -> tuple[UInt8[Tensor, "*v 3 h w"], UInt8[Tensor, "*v h w"]]:
    """RGB on white, rounded to bytes, and coverage."""
    alpha = rgba[..., 3]
    share = alpha[..., None].float() / 255
    rgb = (rgba[..., :3] * share + 255 * (1 - share) + 0.5).to(torch.uint8)
    return rgb.movedim(-1, -3), alpha


def draw_rays(
    orbits: Orbits, batch: int, config: DrawConfig, generator: torch.Generator, progress: float = 0.0
) -> RayBatch:
    """`batch` objects, each seen in one random view and supervised by rays of other views.

    Azimuth is counted from the input view, so that any view of an orbit can be the input. `progress`, from 0 to below
    1, says how far the training is: `config.sizes` depends on it.
    """
    count, views = orbits.rgb.shape[:2]
    rows = torch.randint(count, (batch,), generator=generator)
    order = torch.rand(batch, views, generator=generator).argsort(1)
    image, _, source = orbits.views(rows, order[:, 0])
    targets = order[:, 1 : 1 + config.side_views]
    rgb, alpha, cameras = orbits.views(rows[:, None].expand_as(targets), targets)
    if config.permute_colours:
        channels = torch.rand(batch, 3, generator=generator).argsort(1)
        image = torch.gather(image, 1, channels[:, :, None, None].expand_as(image))
        rgb = torch.gather(rgb, 2, channels[:, None, :, None, None].expand_as(rgb))
    if config.mirror:
        flip = torch.rand(batch, generator=generator) < 0.5
        image = torch.where(flip[:, None, None, None], image.flip(-1), image)
        rgb = torch.where(flip[:, None, None, None, None], rgb.flip(-1), rgb)
        alpha = torch.where(flip[:, None, None, None], alpha.flip(-1), alpha)
        source, cameras = mirrored_where(flip, source), mirrored_where(flip[:, None].expand_as(targets), cameras)
    cameras = _disturbed(cameras.relative_to(source[:, None]), config, generator)
    if config.sizes:
        size = config.sizes[int(progress * len(config.sizes))]
        rgb, alpha = (F.interpolate(part.flatten(0, 1), size, mode="area") for part in (rgb, alpha.unsqueeze(2)))
        rgb, alpha = (part.unflatten(0, targets.shape) for part in (rgb, alpha[:, 0]))
    origins, directions = (part.flatten(1, 2) for part in cameras.rays(rgb.shape[-1]))
    chosen = chosen_pixels(alpha, config, generator)
    rgb, some = rgb.movedim(2, -1).flatten(1, 3), torch.arange(batch)[:, None]
    return RayBatch(
        image,
        source.relative_to(source),
        origins[some, chosen],
        directions[some, chosen],
        rgb[some, chosen],
        alpha.flatten(1)[some, chosen],
        config.patch,
    )


def chosen_pixels(
    alpha: Float[Tensor, "b v s s"], config: DrawConfig, generator: torch.Generator
) -> Int64[Tensor, "b chosen"]:
    """The numbers of the supervised pixels, counted over the views."""
    if not config.patch:
        return torch.multinomial(ray_odds(alpha, config.near_object), config.rays, generator=generator)
    b, v, side, _ = alpha.shape
    odds = ray_odds(alpha.flatten(0, 1)[:, None], config.near_object)  # of each view by itself
    middle = torch.multinomial(odds, 1, generator=generator).view(b, v)
    first = [(place - config.patch // 2).clamp(0, side - config.patch) for place in (middle // side, middle % side)]
    line = torch.arange(config.patch)
    down, across = first[0][..., None, None] + line[:, None], first[1][..., None, None] + line
    view = torch.arange(v)[:, None, None] * side**2
    return (view + down * side + across).flatten(1)


def ray_odds(alpha: Float[Tensor, "b v s s"], near_object: float) -> Float[Tensor, "b rays"]:
    """Even odds, mixed with odds for rays within two pixels of the object."""
    around = F.max_pool2d(alpha, 5, 1, 2).flatten(1)
    share = around / around.sum(1, keepdim=True).clamp(min=1e-6)
    return (1 - near_object) / around.shape[1] + near_object * share


def mirrored_where(flip: Tensor, cameras: Camera) -> Camera:
    mirrored = cameras.mirrored()
    pose = torch.where(flip[..., None, None], mirrored.pose, cameras.pose)
    return Camera(pose, torch.where(flip[..., None], mirrored.intrinsics, cameras.intrinsics))


def _disturbed(cameras: Camera, config: DrawConfig, generator: torch.Generator) -> Camera:
    """Cameras moved about the world's up axis, up or down, and to another focal length."""

    def noise(deviation: float) -> Float[Tensor, "b v"]:
        return deviation * torch.randn(cameras.pose.shape[:-2], generator=generator)

    if config.camera_noise:
        cameras = _turned(cameras, torch.deg2rad(noise(config.camera_noise)))
    if config.height_noise:
        # about the axis that lies level across the line to the origin, as if the orbit were at another elevation
        azimuth = torch.atan2(cameras.pose[..., 1, 3], cameras.pose[..., 0, 3])
        level = _turned(cameras, -azimuth)
        cameras = _turned(_tilted(level, torch.deg2rad(noise(config.height_noise))), azimuth)
    if config.focal_noise:
        intrinsics = cameras.intrinsics.clone()
        intrinsics[..., :2] *= (1 + noise(config.focal_noise).clamp(min=-0.9))[..., None]
        cameras = Camera(cameras.pose, intrinsics)
    return cameras


def _turned(cameras: Camera, angle: Float[Tensor, "*b"]) -> Camera:
    """Cameras moved about the world's up axis by `angle` radians."""
    return _moved(cameras, angle, (0, 1))


def _tilted(cameras: Camera, angle: Float[Tensor, "*b"]) -> Camera:
    """Cameras at azimuth 0 moved up by `angle` radians."""
    return _moved(cameras, angle, (0, 2))


def _moved(cameras: Camera, angle: Float[Tensor, "*b"], axes: tuple[int, int]) -> Camera:
    rotation = torch.eye(4).repeat(*angle.shape, 1, 1)
    a, b = axes
    rotation[..., a, a], rotation[..., a, b] = angle.cos(), -angle.sin()
    rotation[..., b, a], rotation[..., b, b] = angle.sin(), angle.cos()
    return Camera(rotation @ cameras.pose, cameras.intrinsics)
