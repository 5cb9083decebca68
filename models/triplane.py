"""A tri-plane and its volume renderer.

Three feature planes span a box around the origin; a point's features are looked up in each of them and decoded to
density and colour; rays gather those into pixels. Conventions are those of the published LRM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models import fused
from models.camera import Camera
from models.compositing import composite, segment_weights

PLANES = ((0, 1), (0, 2), (2, 1))  # the coordinates along each plane's width and height: (x, y), (x, z), (z, y)
OUTPUT_GAIN = 3.0  # of the decoder's last layer at the start: densities must reach tens soon
EMPTY = -1e30  # raw density outside the box: one such end empties a whole segment of a ray


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


class Rendering(NamedTuple):
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
        planes: Triplane | Field,
        origins: Float[Tensor, "b r 3"],
        directions: Float[Tensor, "b r 3"],
        generator: torch.Generator | None = None,
        *,
        reference: bool = False,
        jitter: Float[Tensor, "b r n"] | None = None,
        u: Float[Tensor, "b r m"] | None = None,
    ) -> Rendering:
        """Render rays with unit `directions`: rgb [b, r, 3], depth [b, r, 1], weight [b, r, 1].

        `generator` jitters the samples, as training wants; without one they stand still and two calls agree. `jitter`
        and `u`, in 0..1, are what it would draw for the coarse and the fine samples. A ray that misses the box costs
        nothing: background, depth 0, weight 0. With `reference` it borrows its limits from the other rays instead,
        samples may lie behind the camera, and depth is clamped over the whole call, as the published renderers do.
        """
        field = planes if isinstance(planes, Field) else self.field(planes, reference=reference)
        jitter = draw(origins, self.samples, generator) if jitter is None else jitter
        if self.importance_samples and u is None:
            u = draw(origins, self.importance_samples, generator, spread=True)
        if reference:
            limits = borrowed_limits(*reference_limits(origins, directions, field.planes.box))
            return self._render(field, origins, directions, limits, jitter, u, over_all_rays=True)
        near, far = box_limits(origins, directions, field.planes.box)
        hit = far > near
        count = max(1, int(hit.sum(1).max()))
        if count == hit.shape[1]:
            return self._render(field, origins, directions, (near, far), jitter, u)
        chosen = hit.byte().argsort(dim=1, descending=True, stable=True)[:, :count]  # the fullest row sets the width

        def some(values: Tensor) -> Tensor:
            index = chosen if values.ndim == 2 else chosen[..., None].expand(*chosen.shape, values.shape[-1])
            return values.gather(1, index)

        seen = self._render(
            field,
            some(origins),
            some(directions),
            (some(near), some(far)),
            some(jitter),
            None if u is None else some(u),
        )
        b, r = hit.shape
        blank = (origins.new_full((b, r, 3), self.background), *origins.new_zeros(2, b, r, 1))
        index = chosen[..., None]
        parts = (
            base.scatter(1, index.expand_as(part), part.to(base.dtype)) for base, part in zip(blank, seen, strict=True)
        )
        return Rendering(*parts)

    def field(self, planes: Triplane, *, reference: bool = False) -> Field:
        """What planes hold at points, ready to be asked."""
        return Field(self.decoder, planes, plain=reference)

    def _render(
        self,
        field: Field,
        origins: Float[Tensor, "b r 3"],
        directions: Float[Tensor, "b r 3"],
        limits: tuple[Float[Tensor, "b r"], Float[Tensor, "b r"]],
        jitter: Float[Tensor, "b r n"],
        u: Float[Tensor, "b r m"] | None,
        over_all_rays: bool = False,
    ) -> Rendering:
        depths = coarse_depths(*limits, self.samples, jitter)
        rgb, density = _sample(field, origins, directions, depths)
        if u is not None:
            with torch.no_grad():  # where to look is no matter of gradients
                if field.fused:
                    weights = segment_weights(density.flatten(0, 1), depths.flatten(0, 1)).unflatten(
                        0, depths.shape[:2]
                    )
                else:
                    weights = march(rgb, density, depths)[0]
                finer = importance_depths(depths, weights, u)
            finer_rgb, finer_density = _sample(field, origins, directions, finer)
            depths, order = torch.cat((depths, finer), -1).sort(-1)
            rgb = torch.cat((rgb, finer_rgb), -2).gather(-2, order[..., None].expand(*order.shape, 3))
            density = torch.cat((density, finer_density), -1).gather(-1, order)
        if field.fused:
            return Rendering(*composite(density, rgb, depths, self.background).split((3, 1, 1), -1))
        weights, colours, middles = march(rgb, density, depths)
        weight = weights.sum(-1, keepdim=True)
        seen = (weights[..., None] * colours).sum(-2)
        depth = (weights * middles).sum(-1, keepdim=True) / weight
        # empty rays end at their last sample
        depth = torch.nan_to_num(depth, nan=torch.inf).minimum(depths.max() if over_all_rays else depths[..., -1:])
        return Rendering(seen + (1 - weight) * self.background, depth, weight)


def _sample(
    field: Field, origins: Float[Tensor, "b r 3"], directions: Float[Tensor, "b r 3"], depths: Float[Tensor, "b r n"]
) -> tuple[Float[Tensor, "b r n 3"], Float[Tensor, "b r n"]]:
    points = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(1, 2)
    rgb, density = field(points)
    inside = (points.abs() <= field.planes.box).all(-1)
    shape = depths.shape
    return (rgb * inside[..., None]).view(*shape, 3), torch.where(inside, density, EMPTY).view(shape)


class Field:
    """Colour and raw density at points of a batch of planes: look-up and decoder, fused where they can be.

    `plain` asks for the two one after the other, which is what other devices and lower precisions do.
    """

    def __init__(self, decoder: Decoder, planes: Triplane, *, plain: bool = False) -> None:
        self.decoder, self.planes = decoder, planes
        values = planes.planes
        self.fused = not (plain or values.device.type != "cpu" or torch.is_autocast_enabled("cpu"))
        self.fused = self.fused and values.dtype in (torch.float32, torch.float64)
        first, *rest = (layer for layer in decoder.net if isinstance(layer, nn.Linear))
        if self.fused:
            plane_features = 3 * values.shape[2]
            self.folded = fused.fold(values, first.weight[:, :plane_features])
            self.for_view, self.bias = first.weight[:, plane_features:], first.bias
            self.layers = tuple(part for layer in rest for part in (layer.weight, layer.bias))

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        """Colour in 0..1 and raw density."""
        seen, colours = (None, None) if self.planes.view is None else self.planes.view.look_up(points)
        if self.fused:
            start = self.bias if seen is None else F.linear(seen, self.for_view, self.bias)
            out = fused.decode(self.folded, points / self.planes.box, start, self.layers)
        else:
            features = self.planes.look_up(points)
            out = self.decoder.net(features if seen is None else torch.cat((features, seen), -1))
        return self.decoder.outputs(out, colours)


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

    def outputs(
        self, raw: Float[Tensor, "b n outputs"], colours: Float[Tensor, "b n c 3"] | None = None
    ) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n"]]:
        """Colour and raw density from what `net` makes of features."""
        density, rgb, mixture = raw.split((1, 3, self.mixture), -1)
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


def reference_limits(
    origins: Float[Tensor, "*b r 3"], directions: Float[Tensor, "*b r 3"], half: float
) -> tuple[Float[Tensor, "*b r"], Float[Tensor, "*b r"]]:
    """The published form of `box_limits`: also behind the camera; rays that miss get -1 and -2."""
    first, second = (-half - origins) / directions, (half - origins) / directions
    near, far = torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)
    hit = far > near
    return torch.where(hit, near, -1), torch.where(hit, far, -2)


def borrowed_limits(
    near: Float[Tensor, "*b r"], far: Float[Tensor, "*b r"]
) -> tuple[Float[Tensor, "*b r"], Float[Tensor, "*b r"]]:
    """What the published renderers give rays that miss: from the smallest to the largest start of all rays that hit."""
    hit = far > near
    if not hit.any():
        return near, far
    return torch.where(hit, near, near[hit].min()), torch.where(hit, far, near[hit].max())


def draw(
    rays: Float[Tensor, "*r 3"], count: int, generator: torch.Generator | None, spread: bool = False
) -> Float[Tensor, "*r n"]:
    """Numbers in 0..1 for every ray: random with a generator, else halves, or `count` evenly spread ones."""
    like = rays[..., 0]
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
