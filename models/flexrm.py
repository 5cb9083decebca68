"""FlexRM (Flex3D, arXiv 2410.00890): 1 to 32 posed views in, a tri-plane and Gaussians out.

Reads as the paper does: each view through an image encoder that its camera modulates -> one transformer over plane
tokens, which attends to the tokens of all views -> tri-plane -> Gaussians that start from a grid of points. All that an
`LRM` does with its planes (rays, images, densities) is done here too: the first stage of training is volume rendering,
and meshes come that way. The papers tell neither sizes nor the head; what is ours stands in `FlexRMConfig`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.camera import Camera
from models.config import EncoderConfig
from models.encoder import Encoder
from models.flexrm_config import VIEWS, FlexRMConfig
from models.gaussians import Gaussians
from models.lrm import LRM, ViewFeatures
from models.triplane import Decoder, InputView, Synthesizer, Triplane, density_of

POINTS = 1 << 16
"""Grid points decoded at once without gradients."""
COLOURS = 2
"""Colours that a point may take from its views: of the pixels that see it, and of the object on average."""


class FlexRM(LRM):
    """`triplane` reconstructs from views, `gaussians` turns planes into splats; the rest is an `LRM`'s."""

    config: FlexRMConfig

    def __init__(self, config: FlexRMConfig) -> None:
        super().__init__(config)
        if config.modulate:
            self.encoder = ModulatedEncoder(config.encoder, config.camera_width)
        features = 3 * config.channels
        colours = 0
        if config.view_channels:
            each = ViewFeatures.width(config) + 4 + 3  # as `InputView.look_up` has them, and the pixel's colour
            self.pool = ViewPool(each)
            features, colours = features + 2 * each + 1, COLOURS
        self.synthesizer = Synthesizer(
            features,
            config.decoder_width,
            config.decoder_layers,
            config.samples,
            config.importance_samples,
            config.background,
            config.density_bias,
            colours,
        )
        self.splats = GaussianHead(config, features, colours)

    def triplane(self, image: Float[Tensor, "n v 3 h w"], source_camera: Camera) -> Triplane:  # pyright: ignore
        """Reconstruct from RGB views in 0..1 on white and their cameras [n, v], in the world that these stand in.

        Azimuth 0 should be the first view's, see `Camera.relative_to`: so it was in training. Raises ValueError for
        less than 1 or more than 32 views, or a number of cameras that differs.
        """
        n, v = image.shape[:2]
        if not 1 <= v <= VIEWS or source_camera.pose.shape[:2] != (n, v):
            had = tuple(source_camera.pose.shape[:2])
            raise ValueError(f"{v} views with cameras {had}: give 1 to {VIEWS} views and a camera for each")
        views, cameras = (
            image.flatten(0, 1),
            Camera(source_camera.pose.flatten(0, 1), source_camera.intrinsics.flatten(0, 1)),
        )
        conditions = self.camera_embedder(cameras.numbers())  # [n v, camera width]
        tokens = self.encoder(views, conditions) if self.config.modulate else self.encoder(views)
        extra = None
        if self.config.align:
            extra = self._aligned(tokens[:, 1:], cameras).unflatten(0, (n, v)).mean(1)
        condition = conditions.unflatten(0, (n, v)).mean(1)  # whatever the order of the views
        planes = self.transformer(tokens.unflatten(0, (n, v)).flatten(1, 2), condition, extra)
        seen = self._view(views, tokens[:, 1:], cameras) if self.config.view_channels else None
        return Triplane(planes, self.config.box, None if seen is None else InputViews.of(seen, v, self.pool))

    def gaussians(self, planes: Triplane) -> list[Gaussians]:
        """The Gaussians of each object: one for every point of the grid."""
        return self.splats(planes)


class ModulatedEncoder(Encoder):
    """An image encoder whose layers are told the camera: their norms are scaled and shifted by it.

    Without a camera, or with fresh weights, it is the plain encoder.
    """

    def __init__(self, config: EncoderConfig, camera_width: int) -> None:
        super().__init__(config)
        self.modulation = nn.ModuleList(nn.Linear(camera_width, 4 * config.width) for _ in range(config.layers))
        for layer in self.modulation:
            nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, image: Float[Tensor, "b 3 h w"], condition: Float[Tensor, "b camera"] | None = None
    ) -> Float[Tensor, "b tokens width"]:
        """Encode RGB images in 0..1, see `Encoder.forward`, as seen by the camera of `condition`."""
        if condition is None:
            return super().forward(image)
        tokens = deque(self._modulated(image, condition), maxlen=1)[0]
        return self._own(self.model.layernorm(tokens))

    def _modulated(self, image: Tensor, condition: Tensor) -> Iterator[Float[Tensor, "b all width"]]:
        x = self._embedded(image)
        for layer, modulation in zip(self.model.encoder.layer, self.modulation, strict=True):
            shift1, scale1, shift2, scale2 = modulation(F.silu(condition))[:, None].chunk(4, -1)
            x = x + layer.layer_scale1(layer.attention(layer.norm1(x) * (1 + scale1) + shift1)[0])
            x = x + layer.layer_scale2(layer.mlp(layer.norm2(x) * (1 + scale2) + shift2))
            yield x


class ViewPool(nn.Module):
    """What several views say of a point: how far each is to be believed, by what it says beside the others."""

    def __init__(self, features: int, hidden: int = 16) -> None:
        super().__init__()
        self.own = nn.Linear(features, hidden)
        self.all = nn.Linear(2 * features, hidden, bias=False)
        self.score = nn.Linear(hidden, 1)

    def forward(self, seen: Float[Tensor, "b v n f"]) -> tuple[Float[Tensor, "b n pooled"], Float[Tensor, "b v n 1"]]:
        """The weighted mean, the variance and 1 / v; and the weights, which sum to 1 over the views."""
        mean = seen.mean(1)
        variance = (seen.square().mean(1) - mean.square()).clamp(min=0)  # torch's own takes several times as long
        among = self.all(torch.cat((mean, variance), -1))[:, None]
        weights = self.score(F.relu(self.own(seen) + among)).softmax(1)
        share = seen.new_full((*mean.shape[:2], 1), 1 / seen.shape[1])
        return torch.cat(((weights * seen).sum(1), variance, share), -1), weights


@dataclass(frozen=True)
class InputViews(InputView):
    """`InputView` of `views` views each: its first axis counts the views of all objects, object by object."""

    views: int
    pool: ViewPool

    @staticmethod
    def of(seen: InputView, views: int, pool: ViewPool) -> InputViews:
        return InputViews(seen.camera, seen.image, seen.features, seen.deep, seen.box, seen.colour, views, pool)

    def look_up(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n f"], Float[Tensor, "b n 2 3"]]:
        """Features of the points pooled over the views, and the colours that they may mix, see `InputView.look_up`."""
        repeated = points.repeat_interleave(self.views, 0)
        features, colours = (part.unflatten(0, (-1, self.views)) for part in super().look_up(repeated))
        seen, weights = self.pool(torch.cat((features, colours[..., 0, :]), -1))
        return seen, (weights[..., None] * colours).sum(1)


class GaussianHead(nn.Module):
    """Points of a grid to Gaussians: what the volume's decoder says of density and colour, and the Gaussian's shape.

    Density becomes the opacity that a step of the grid would have. The head starts as the volume's decoder once
    `begin` was called; the further outputs start at 0: no offset, round, `spread` wide.
    """

    SHAPE = 3 + 3 + 4  # offset, scales, rotation

    def __init__(self, config: FlexRMConfig, features: int, colours: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(features, config.decoder_width, config.decoder_layers, config.density_bias, colours)
        self.shape = nn.Linear(config.decoder_width, self.SHAPE)
        nn.init.zeros_(self.shape.weight)
        nn.init.zeros_(self.shape.bias)

    def begin(self, decoder: Decoder) -> None:
        """Take the weights of the volume's decoder: where the second stage of training starts."""
        self.decoder.load_state_dict(decoder.state_dict())

    @property
    def step(self) -> float:
        """Between grid points, in world units."""
        return 2 * self.config.box / self.config.gaussians

    def points(self, like: Tensor) -> Float[Tensor, "n 3"]:
        side = self.config.gaussians
        line = ((torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side * 2 - 1) * self.config.box
        return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(-1, 3)

    def forward(self, planes: Triplane) -> list[Gaussians]:
        points = self.points(planes.planes)
        step = len(points) if torch.is_grad_enabled() else POINTS
        parts = [self._decoded(planes, some) for some in points.split(step)]
        whole = [torch.cat(values, 1) for values in zip(*parts, strict=True)]
        return [Gaussians(*values) for values in zip(*whole, strict=True)]

    def _decoded(self, planes: Triplane, points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, "b p *parts"], ...]:
        asked = points.expand(len(planes.planes), -1, -1)
        features, colours = planes.look_up(asked), None
        if planes.view is not None:
            seen, colours = planes.view.look_up(asked)
            features = torch.cat((features, seen), -1)
        hidden = self.decoder.net[:-1](features)
        rgb, raw = self.decoder.outputs(self.decoder.net[-1](hidden), colours)
        offset, scales, rotation = self.shape(hidden).split((3, 3, 4), -1)
        config = self.config
        identity = rotation.new_tensor((1.0, 0.0, 0.0, 0.0))
        return (
            asked + config.reach * self.step * offset.tanh(),
            config.spread * self.step * (math.log(config.spreads) * scales.tanh()).exp(),
            F.normalize(rotation + identity, dim=-1),
            1 - (-density_of(raw) * self.step).exp(),
            rgb.clamp(0, 1),
        )
