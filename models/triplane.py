"""A tri-plane and its volume renderer.

Three feature planes span a box around the origin; a point's features are looked up in each of them and decoded to
density and colour; rays gather those into pixels. Conventions are those of the published LRM.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.camera import Camera

PLANES = ((0, 1), (0, 2), (2, 1))  # the coordinates along each plane's width and height: (x, y), (x, z), (z, y)
OUTPUT_GAIN = 3.0  # of the decoder's last layer at the start: densities must reach tens soon
EMPTY = -1e4  # raw density outside the box: one such end empties a whole segment of a ray


@dataclass(frozen=True)
class InputView:
    """What points may read from the input image: a departure from the published model (`LRMConfig.view_channels`).

    `colour` is the mean colour of the object in the image. `deep` stands at depths spread evenly over the box.
    """

    camera: Camera
    image: Float[Tensor, "b 3 s s"]
    features: Float[Tensor, "b v s s"]
    deep: Float[Tensor, "b c d s s"] | None
    box: float
    colour: Float[Tensor, "b 3"]

    def look_up(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n f"], Float[Tensor, "b n 2 3"]]:
        """Features of the pixel that sees a point, at any depth and at its own, and the point's place and depth;
        colours to mix: that pixel's and the mean."""
        uvz = self.camera.project(points).nan_to_num()
        uv = 2 * uvz[..., :2] - 1
        maps = torch.cat((self.features, self.image), 1)
        seen = F.grid_sample(maps, uv[:, None], padding_mode="border", align_corners=False)
        features, pixel = seen[:, :, 0].transpose(1, 2).split((self.features.shape[1], 3), -1)
        distance = self.camera.pose[:, None, :3, 3].norm(dim=-1, keepdim=True)
        depth = uvz[..., 2:] - distance  # along the viewing axis, 0 at the origin's
        parts = [features, 2 * points, 2 * depth]
        if self.deep is not None:
            grid = torch.cat((uv, depth / self.box), -1)[:, None, None]
            read = F.grid_sample(self.deep, grid, padding_mode="border", align_corners=False)
            parts.append(read[:, :, 0, 0].transpose(1, 2))
        return torch.cat(parts, -1), torch.stack((pixel, self.colour[:, None].expand_as(pixel)), -2)


@dataclass(frozen=True)
class Triplane:
    """The planes of a batch of objects in the box of half side `box`, and the input view where points read it."""

    planes: Float[Tensor, "b 3 c h w"]
    box: float = 1.0
    view: InputView | None = None

    def look_up(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n features"]:
        """Bilinear features, one plane after the other; they fade to 0 outside the box."""
        b, _, c, h, w = self.planes.shape
        axes = torch.tensor(PLANES, device=points.device)
        grid = (points / self.box)[..., axes].permute(0, 2, 1, 3).reshape(b * 3, 1, -1, 2)
        maps = self.planes.reshape(b * 3, c, h, w)
        features = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
        return features.view(b, 3 * c, -1).transpose(1, 2)


@dataclass(frozen=True)
class Rendering:
    """Rays or images, whichever was asked for: colour in 0..1, mean depth along the unit ray, accumulated opacity."""

    rgb: Float[Tensor, "*pixels"]
    depth: Float[Tensor, "*pixels"]
    weight: Float[Tensor, "*pixels"]


class Synthesizer(nn.Module):
    """Planes to pixels, by volume rendering."""

    def __init__(
        self,
        features: int,
        width: int = 64,
        layers: int = 4,
        samples: int = 64,
        importance_samples: int = 64,
        background: float = 1.0,
        density_bias: float = 0.0,
        colours: int = 0,
    ) -> None:
        super().__init__()
        self.decoder = Decoder(features, width, layers, density_bias, colours)
        self.samples, self.importance_samples, self.background = samples, importance_samples, background

    def forward(
        self,
        planes: Triplane,
        origins: Float[Tensor, "b r 3"],
        directions: Float[Tensor, "b r 3"],
        generator: torch.Generator | None = None,
    ) -> Rendering:
        """Render rays with unit `directions`: rgb [b, r, 3], depth [b, r, 1], weight [b, r, 1].

        `generator` jitters the samples, as training wants; without one they stand still and two calls agree.
        """
        near, far = box_limits(origins, directions, planes.box)
        jitter = draw(near, self.samples, generator)
        depths = coarse_depths(near, far, self.samples, jitter)
        rgb, density = self._sample(planes, origins, directions, depths)
        if self.importance_samples:
            with torch.no_grad():  # where to look is no matter of gradients
                weights = march(rgb, density, depths)[0]
                finer = importance_depths(depths, weights, draw(near, self.importance_samples, generator, spread=True))
            finer_rgb, finer_density = self._sample(planes, origins, directions, finer)
            depths, order = torch.cat((depths, finer), -1).sort(-1)
            rgb = torch.cat((rgb, finer_rgb), -2).gather(-2, order[..., None].expand(*order.shape, 3))
            density = torch.cat((density, finer_density), -1).gather(-1, order)
        weights, colours, middles = march(rgb, density, depths)
        weight = weights.sum(-1, keepdim=True)
        seen = (weights[..., None] * colours).sum(-2)
        depth = (weights * middles).sum(-1, keepdim=True) / weight
        depth = torch.nan_to_num(depth, nan=torch.inf).minimum(depths[..., -1:])  # empty rays end at their last sample
        return Rendering(seen + (1 - weight) * self.background, depth, weight)

    def query(
        self, planes: Triplane, points: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        """Colour and raw density of points."""
        features = planes.look_up(points)
        if planes.view is None:
            return self.decoder(features)
        seen, colours = planes.view.look_up(points)
        return self.decoder(torch.cat((features, seen), -1), colours)

    def _sample(
        self, planes: Triplane, origins: Tensor, directions: Tensor, depths: Float[Tensor, "b r n"]
    ) -> tuple[Float[Tensor, "b r n 3"], Float[Tensor, "b r n"]]:
        points = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
        rgb, density = self.query(planes, points)
        inside = (points.abs() <= planes.box).all(-1)
        shape = depths.shape
        return (rgb * inside[..., None]).view(*shape, 3), torch.where(inside, density, EMPTY).view(shape)


class Decoder(nn.Module):
    """Features of a point to its colour and raw density; no view direction.

    With `colours` the point's colour is a mixture of its own and of that many given ones.
    """

    def __init__(self, features: int, width: int, layers: int, density_bias: float, colours: int = 0) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for size in (features, *[width] * (layers - 2)):
            steps += [nn.Linear(size, width), nn.ReLU()]
        self.mixture = 1 + colours if colours else 0
        self.net = nn.Sequential(*steps, nn.Linear(width, 4 + self.mixture))
        linear = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        # Full gain: with torch's default, a third of it, short trainings start twice as slowly.
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(linear[-1].weight, std=OUTPUT_GAIN * width**-0.5)
        with torch.no_grad():
            linear[-1].bias[0] = density_bias

    def forward(
        self, features: Float[Tensor, "b n f"], colours: Float[Tensor, "b n c 3"] | None = None
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        density, rgb, mixture = self.net(features).split((1, 3, self.mixture), -1)
        rgb = torch.sigmoid(rgb) * 1.002 - 0.001
        if colours is not None:
            weights = mixture.softmax(-1)[..., None, :]
            rgb = (weights @ torch.cat((rgb[..., None, :], colours), -2)).squeeze(-2)
        return rgb, density.squeeze(-1)


def density_of(raw: Tensor) -> Tensor:
    """Raw density to density per unit length."""
    return F.softplus(raw - 1)


def box_limits(
    origins: Float[Tensor, "*b r 3"], directions: Float[Tensor, "*b r 3"], half: float
) -> tuple[Float[Tensor, "*b r"], Float[Tensor, "*b r"]]:
    """Where rays enter and leave the box, never behind the camera; rays that miss get near = far = 0.

    A zero in a direction divides to the infinity that the slab test wants.
    """
    first, second = (-half - origins) / directions, (half - origins) / directions
    inside = origins.abs() <= half
    # 0 / 0: a ray that runs along a face's plane never leaves that pair of faces
    lowest = torch.where(inside, -torch.inf, torch.inf).to(first.dtype)
    near = torch.where(first.isnan() | second.isnan(), lowest, torch.minimum(first, second)).amax(-1)
    far = torch.where(first.isnan() | second.isnan(), -lowest, torch.maximum(first, second)).amin(-1)
    near = near.clamp(min=0)
    hit = far > near
    return torch.where(hit, near, 0), torch.where(hit, far, 0)


def draw(
    like: Float[Tensor, "*r"], count: int, generator: torch.Generator | None, spread: bool = False
) -> Float[Tensor, "*r n"]:
    """Numbers in 0..1 for every ray: random with a generator, else halves, or `count` evenly spread ones."""
    if generator is not None:
        drawn = torch.rand(*like.shape, count, generator=generator, dtype=like.dtype, device=generator.device)
        return drawn.to(like.device)
    middles = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / count
    return (middles if spread else torch.full_like(middles, 0.5)).expand(*like.shape, count)


def coarse_depths(
    near: Float[Tensor, "*r"], far: Float[Tensor, "*r"], count: int, jitter: Float[Tensor, "*r n"]
) -> Float[Tensor, "*r n"]:
    """Evenly spaced depths from near to far, both included, each shifted on by its jitter of one step."""
    steps = torch.arange(count, dtype=near.dtype, device=near.device) + jitter
    return near[..., None] + steps / (count - 1) * (far - near)[..., None]


def importance_depths(
    depths: Float[Tensor, "*r n"], weights: Float[Tensor, "*r n-1"], u: Float[Tensor, "*r m"]
) -> Float[Tensor, "*r m"]:
    """Depths drawn where the coarse pass found weight: the inverse CDF of the smoothed weights at `u`."""
    flat = weights.flatten(0, -2)[:, None]
    smooth = F.avg_pool1d(F.max_pool1d(flat, 2, 1, padding=1), 2, 1)[:, 0].view(weights.shape) + 0.01
    pdf = smooth[..., 1:-1] + 1e-5
    cdf = F.pad((pdf / pdf.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    bins = (depths[..., :-1] + depths[..., 1:]) / 2
    upper = torch.searchsorted(cdf, u.contiguous(), right=True)
    below, above = (upper - 1).clamp(min=0), upper.clamp(max=cdf.shape[-1] - 1)
    step = cdf.gather(-1, above) - cdf.gather(-1, below)
    part = (u - cdf.gather(-1, below)) / torch.where(step < 1e-5, 1.0, step)
    start = bins.gather(-1, below)
    return start + part * (bins.gather(-1, above) - start)


def march(
    rgb: Float[Tensor, "*r n 3"], density: Float[Tensor, "*r n"], depths: Float[Tensor, "*r n"]
) -> tuple[Float[Tensor, "*r n-1"], Float[Tensor, "*r n-1 3"], Float[Tensor, "*r n-1"]]:
    """Weights, colours and depths of the segments between neighbouring samples; raw densities are averaged first."""
    length = depths[..., 1:] - depths[..., :-1]
    optical = density_of((density[..., 1:] + density[..., :-1]) / 2) * length
    alpha = 1 - torch.exp(-optical)
    passed = torch.cumprod(1 - alpha + 1e-10, -1)
    weights = alpha * F.pad(passed[..., :-1], (1, 0), value=1.0)
    return weights, (rgb[..., 1:, :] + rgb[..., :-1, :]) / 2, (depths[..., 1:] + depths[..., :-1]) / 2
