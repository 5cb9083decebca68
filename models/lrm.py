"""The large reconstruction model: one image in, a tri-plane out.

Reads as the paper does: image tokens -> a transformer over plane tokens, told the camera -> planes -> volume renderer.
Written from the conventions of LRM, OpenLRM and VFusion3D; parameter names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from models.camera import Camera
from models.config import LRMConfig
from models.encoder import Encoder
from models.grid import density_slabs
from models.linear import attend, linear, product
from models.triplane import PLANES, Field, InputView, Rendering, Synthesizer, Triplane, density_of

Planes = Triplane | Field | Float[Tensor, "n 3 c h w"]
WHITE = 0.02  # how far from white the background may be
CHUNK = 1 << 17  # samples decoded at once without gradients; bounds memory whatever the image or grid size


class LRM(nn.Module):
    """`planes` (or `triplane`) reconstructs, `render` looks, `query` asks points."""

    def __init__(self, config: LRMConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.camera_embedder = CameraEmbedder(config.camera_width)
        self.transformer = TriplaneTransformer(config)
        self.synthesizer = Synthesizer(
            3 * config.channels + (ViewFeatures.width(config) + 4 if config.view_channels else 0),
            config.decoder_width,
            config.decoder_layers,
            config.samples,
            config.importance_samples,
            config.background,
            config.density_bias,
            colours=2 if config.view_channels else 0,
        )
        if config.align:
            self.align = nn.Linear(config.encoder.width, config.width)
        if config.view_channels:
            self.view = ViewFeatures(config)

    @classmethod
    def from_config(cls, config: LRMConfig) -> LRM:
        return cls(config)

    def planes(
        self, image: Float[Tensor, "n 3 h w"], source_camera: Camera | Float[Tensor, "n 16"]
    ) -> Float[Tensor, "n 3 c h w"]:
        """Reconstruct from one RGB image each, 0..1 on white, seen by `source_camera`, a `Camera` or published numbers.

        What this returns is all there is of a published model; one that reads its input view (`view_channels`) needs
        `triplane`.
        """
        return self.triplane(image, source_camera).planes

    def triplane(self, image: Float[Tensor, "n 3 h w"], source_camera: Camera | Float[Tensor, "n 16"]) -> Triplane:
        """The same, with what points may read from the input view."""
        camera = _camera(source_camera)
        tokens = self.encoder(image)  # [n, 1 + patches, encoder width]
        condition = self.camera_embedder(camera.numbers())  # [n, camera width]
        extra = self._aligned(tokens[:, 1:], camera) if self.config.align else None
        planes = self.transformer(tokens, condition, extra)
        view = self._view(image, tokens[:, 1:], camera) if self.config.view_channels else None
        return Triplane(planes, self.config.box, view)

    def _view(self, image: Float[Tensor, "b 3 h w"], patches: Tensor, camera: Camera) -> InputView:
        object_ = (image.amin(1, keepdim=True) < 1 - WHITE).to(image.dtype)
        colour = (image * object_).sum((2, 3)) / object_.sum((2, 3)).clamp(min=1)
        flat, deep = self.view(image, object_, patches)
        return InputView(camera, image, flat, deep, self.config.box, colour)

    def _aligned(self, patches: Float[Tensor, "b p width"], camera: Camera) -> Float[Tensor, "b tokens width"]:
        """Image tokens carried onto the planes: a grid of points reads the token that the camera sees it in, and the
        grid is averaged along each plane's normal."""
        side, n = math.isqrt(patches.shape[1]), self.config.plane_tokens
        image = self.align(patches).transpose(1, 2).unflatten(2, (side, side))
        line = ((torch.arange(n, device=image.device) + 0.5) / n * 2 - 1) * self.config.box
        grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)  # [x, y, z, 3]
        uv = camera.project(grid.view(-1, 3).to(image.dtype))[..., None, :, :2] * 2 - 1
        seen = F.grid_sample(image, uv.nan_to_num(), align_corners=False)  # [b, width, 1, points]
        volume = seen.transpose(1, 3).unflatten(1, (n, n, n)).squeeze(4)  # [b, x, y, z, width]
        planes = [volume.movedim((1 + height, 1 + width), (1, 2)).mean(3) for width, height in PLANES]
        return torch.stack(planes, 1).flatten(1, 3)

    def field(self, planes: Triplane | Float[Tensor, "n 3 c h w"], *, reference: bool = False) -> Field:
        """Planes ready to be asked many times; every method below takes it in their place."""
        if isinstance(planes, Tensor):
            if self.config.view_channels:
                raise ValueError("this model reads its input view as well: pass what `triplane` returns, not planes")
            planes = Triplane(planes, self.config.box)
        return self.synthesizer.field(planes, reference=reference)

    def rays(
        self,
        planes: Planes,
        origins: Float[Tensor, "n r 3"],
        directions: Float[Tensor, "n r 3"],
        generator: torch.Generator | None = None,
    ) -> Rendering:
        """Render single rays; see `Synthesizer.forward`."""
        field = planes if isinstance(planes, Field) else self.field(planes)
        return cast(Rendering, self.synthesizer(field, origins, directions, generator))

    def render(
        self,
        planes: Planes,
        cameras: Camera | Float[Tensor, "n v 25"],
        size: int,
        crop: tuple[int, int, int] | None = None,
        reference: bool = False,
        jitter: Float[Tensor, "*numbers"] | None = None,
        u: Float[Tensor, "*numbers"] | None = None,
    ) -> Rendering:
        """Images of `size` pixels a side, or their (x, y, side) crop, from `cameras` (batch [n, v]).

        rgb [n, v, 3, h, w], depth and weight [n, v, 1, h, w]. Deterministic: `jitter` (n v rays samples numbers in
        0..1, in any shape) and `u` (n v rays importance_samples) move the samples; without them they stand in the
        middle. `reference` renders as the published classes do, defects included; see `Synthesizer.forward`.
        """
        origins, directions = _camera(cameras).rays(size, crop)
        b, v, _, _ = origins.shape
        side = crop[2] if crop else size
        origins, directions = origins.flatten(1, 2), directions.flatten(1, 2)
        count = origins.shape[1]
        field = self.field(planes, reference=reference) if not isinstance(planes, Field) else planes
        per_ray = self.config.samples + self.config.importance_samples
        bounded = not (reference or torch.is_grad_enabled())
        step = max(1, CHUNK // (per_ray * b)) if bounded else count
        parts = []
        for first in range(0, count, step):
            part = slice(first, first + step)
            own = [None if values is None else values.reshape(b, count, -1)[:, part] for values in (jitter, u)]
            parts.append(
                self.synthesizer(
                    field, origins[:, part], directions[:, part], reference=reference, jitter=own[0], u=own[1]
                )
            )
        rgb, depth, weight = (torch.cat(values, 1) for values in zip(*parts, strict=True))
        return Rendering(*(values.view(b, v, side, side, -1).movedim(-1, 2) for values in (rgb, depth, weight)))

    def query(
        self, planes: Planes, points: Float[Tensor, "n p 3"]
    ) -> tuple[Float[Tensor, "n p 1"], Float[Tensor, "n p 3"]]:
        """Density per unit length and colour of points."""
        field = planes if isinstance(planes, Field) else self.field(planes)
        step = points.shape[1] if torch.is_grad_enabled() else max(1, CHUNK // len(points))
        rgb, raw = (torch.cat(values, 1) for values in zip(*map(field, points.split(step, 1)), strict=True))
        return density_of(raw)[..., None], rgb

    def densities(
        self, planes: Planes, side: int, below: float | None = None
    ) -> Iterator[Float[Tensor, "rows side side"]]:
        """Density per unit length of the first object on a grid of `side` points an axis, x slab by x slab; see
        `models.grid.density_slabs`.
        """
        return density_slabs(planes if isinstance(planes, Field) else self.field(planes), side, below)


def _camera(camera: Camera | Float[Tensor, "*batch numbers"]) -> Camera:
    return camera if isinstance(camera, Camera) else Camera.from_published(camera)


class CameraEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, numbers: Float[Tensor, "b 16"]) -> Float[Tensor, "b width"]:
        return self.mlp(numbers)


class ViewFeatures(nn.Module):
    """Features of every pixel, from the token of its patch and from its neighbours; of every depth, from the token."""

    def __init__(self, config: LRMConfig, hidden: int = 32) -> None:
        super().__init__()
        self.patch, channels = config.encoder.patch, config.view_channels
        self.depths, self.deep = config.view_depths, config.depth_channels
        self.tokens = nn.Linear(config.encoder.width, (channels + self.depths * self.deep) * self.patch**2)
        self.net = nn.Sequential(
            nn.Conv2d(channels + 4, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, channels, 3, padding=1)
        )
        self.channels = channels

    @staticmethod
    def width(config: LRMConfig) -> int:
        """Features that a point reads."""
        return config.view_channels + (config.depth_channels if config.view_depths else 0)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], object_: Float[Tensor, "b 1 h w"], patches: Float[Tensor, "b p e"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b deep depths h w"] | None]:
        side = math.isqrt(patches.shape[1]) * self.patch
        fine = F.fold(self.tokens(patches).transpose(1, 2), (side, side), self.patch, stride=self.patch)
        if fine.shape[-2:] != image.shape[-2:]:
            fine = F.interpolate(fine, image.shape[-2:], mode="bilinear", align_corners=False)
        flat, deep = fine[:, : self.channels], fine[:, self.channels :]
        flat = flat + self.net(torch.cat((image, object_, flat), 1))
        return flat, deep.unflatten(1, (self.deep, self.depths)) if self.depths else None


class TriplaneTransformer(nn.Module):
    """Learned tokens of three planes look at the image tokens, then are spread to texels."""

    def __init__(self, config: LRMConfig) -> None:
        super().__init__()
        self.side = config.plane_tokens
        self.gradient_checkpointing = False
        tokens = 3 * config.plane_tokens**2
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, config.width) / math.sqrt(config.width))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.deconv = nn.ConvTranspose2d(config.width, config.channels, config.upsampling, config.upsampling)
        nn.init.normal_(self.deconv.weight, std=config.width**-0.5)  # torch counts the fan of the other direction

    def forward(
        self,
        image: Float[Tensor, "b i encoder"],
        condition: Float[Tensor, "b camera"],
        extra: Float[Tensor, "b t width"] | None = None,
    ) -> Float[Tensor, "b 3 c h w"]:
        x = self.pos_embed.expand(len(image), -1, -1)
        x = x if extra is None else x + extra
        forget = self.gradient_checkpointing and torch.is_grad_enabled()
        for layer in self.layers:
            x = checkpoint(layer, x, image, condition, use_reentrant=False) if forget else layer(x, image, condition)
        x = self.norm(x).unflatten(1, (3, self.side, self.side)).flatten(0, 1).permute(0, 3, 1, 2)
        return self.deconv(x).unflatten(0, (-1, 3))

    def enable_gradient_checkpointing(self) -> None:
        """Compute the blocks' activations again in the backward pass instead of keeping them."""
        self.gradient_checkpointing = True


class Block(nn.Module):
    """Cross-attention to the image, self-attention, MLP, each behind a norm that the camera modulates."""

    def __init__(self, config: LRMConfig) -> None:
        super().__init__()
        width, image = config.width, config.encoder.width
        self.norm1 = ModulatedNorm(width, config.camera_width)
        self.cross_attn = nn.MultiheadAttention(
            width, config.heads, bias=False, kdim=image, vdim=image, batch_first=True
        )
        self.norm2 = ModulatedNorm(width, config.camera_width)
        self.self_attn = nn.MultiheadAttention(width, config.heads, bias=False, batch_first=True)
        self.norm3 = ModulatedNorm(width, config.camera_width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width)
        )  # the third place is dropout in the published model, so that names agree

    def forward(self, x: Float[Tensor, "b t w"], image: Tensor, condition: Tensor) -> Float[Tensor, "b t w"]:
        x = x + attend(self.cross_attn, self.norm1(x, condition), image)
        y = self.norm2(x, condition)
        x = x + attend(self.self_attn, y, y)
        widen, narrow = cast("tuple[nn.Linear, nn.Linear]", (self.mlp[0], self.mlp[3]))
        wide = linear(self.norm3(x, condition), widen.weight, widen.bias)
        return x + _NarrowedGELU.apply(wide, narrow.weight, narrow.bias)


class _NarrowedGELU(torch.autograd.Function):
    """A linear layer after GELU. Backward computes GELU again: its values are the largest of a block to keep."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(x, weight)
        return product(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        flat, lower = grad.flatten(0, -2), x.to(grad.dtype)  # under autocast they may be of less precision
        for_weight, for_bias = flat.T @ F.gelu(lower).flatten(0, -2), flat.sum(0)
        for_x = torch.ops.aten.gelu_backward(product(grad, weight.to(grad.dtype).t()), lower)
        return for_x.to(x.dtype), for_weight.to(weight.dtype), for_bias.to(weight.dtype)


class ModulatedNorm(nn.Module):
    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(condition, 2 * width))

    def forward(self, x: Float[Tensor, "b t w"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b t w"]:
        shift, scale = self.mlp(condition)[:, None].chunk(2, -1)
        if not torch.is_grad_enabled():
            return self._modulated(x, shift, scale)
        # computed again in backward: cheap beside the matrix products, and three a block to keep otherwise
        return checkpoint(self._modulated, x, shift, scale, use_reentrant=False, preserve_rng_state=False)

    def _modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.norm(x) * (1 + scale) + shift
