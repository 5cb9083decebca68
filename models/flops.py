"""Floating-point operations of the large models, counted on the meta device: no weight is ever made.

A multiplication and an addition count as two, as torch's counter has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.camera import Camera
from models.checkpoints import parameter_count
from models.config import DenoisingConfig, EncoderConfig, LRMConfig, TextToImageConfig, VideoConfig
from models.encoder import Encoder
from models.flexrm import FlexRM, GaussianHead
from models.flexrm_config import FlexRMConfig
from models.lrm import LRM
from models.multiview import MultiviewModel, build_pipeline
from models.multiview_config import BackboneConfig, MultiviewConfig
from models.text_to_image import TextToImage, word_tokenizer
from models.video import build_video

BACKWARD = 2
"""A backward pass costs about twice the forward one."""


def encoder_flops(config: EncoderConfig) -> int:
    """Of one image."""
    with torch.device("meta"):
        model = Encoder(config)
        image = torch.empty(1, 3, config.image_size, config.image_size)
        return _counted(lambda: model(image))


def video_flops(config: VideoConfig) -> tuple[int, int]:
    """Of one denoising step of one clip, and of decoding one clip."""
    with torch.device("meta"):
        model = build_video(config).to("meta")  # diffusers makes some parameters on the CPU whatever it is told
        latents = torch.empty(1, *model.latent_shape())
        frame = torch.empty(1, 3, config.size, config.size)
        told = model.conditions(frame, latents[:, 0], DenoisingConfig.model_validate({}), torch.Generator("cpu"))
        condition = {name: copies[:, 0] for name, copies in told.items()}
        return (
            _counted(lambda: model.denoise(latents, torch.empty(1), condition)),
            _counted(lambda: model.decode(latents)),
        )


def planes_flops(config: LRMConfig) -> int:
    """Of the planes of one image."""
    with torch.device("meta"):
        model = LRM(config)
        side = config.encoder.image_size

        def forward() -> None:
            condition = model.camera_embedder(torch.empty(1, 16))
            model.transformer(model.encoder(torch.empty(1, 3, side, side)), condition)

        return _counted(forward)


def ray_flops(config: LRMConfig) -> int:
    """Of one rendered ray: the decoder at each of its samples."""
    # the first pass is decoded as well, to know where importance samples belong
    return (config.samples + config.importance_samples) * point_flops(config)


def point_flops(config: LRMConfig) -> int:
    """Of one point of the planes, decoded to density and colour."""
    width, inner = config.decoder_width, config.decoder_layers - 2
    return 2 * (3 * config.channels * width + inner * width**2 + 4 * width)


@dataclass(frozen=True)
class FlexRMFlops:
    """Of one object; all grow in a straight line with its views, whose mean number may be any. Splatting is left out:
    it has no matrix product."""

    config: FlexRMConfig
    _planes: tuple[int, int]
    _point: tuple[int, int]
    """(whatever the number of views, for each of them)"""

    @staticmethod
    def of(config: FlexRMConfig) -> FlexRMFlops:
        few = 4  # Gaussians a side: each costs the same
        with torch.device("meta"):
            model, side = FlexRM(config.model_copy(update={"gaussians": few})), config.encoder.image_size

            def counted(views: int) -> tuple[int, int]:
                images = torch.empty(1, views, 3, side, side)
                cameras = Camera(torch.empty(1, views, 4, 4), torch.empty(1, views, 4))
                planes = model.triplane(images, cameras)
                return _counted(lambda: model.triplane(images, cameras)), _counted(lambda: model.gaussians(planes))

            (planes, head), (more, wider) = counted(1), counted(2)
        point, each = head // few**3, (wider - head) // few**3
        return FlexRMFlops(config, (2 * planes - more, more - planes), (point - each, each))

    def planes(self, views: float) -> float:
        """The encoder of every view, and the transformer with the tokens of all."""
        return self._planes[0] + views * self._planes[1]

    def gaussians(self, views: float) -> float:
        """The head at every point of the grid."""
        return self.config.gaussians**3 * (self._point[0] + views * self._point[1])

    def ray(self, views: float) -> float:
        """As `ray_flops`; points read the views where the model has `view_channels`."""
        shape = 2 * self.config.decoder_width * GaussianHead.SHAPE  # which the volume's decoder has not
        samples = self.config.samples + self.config.importance_samples
        return samples * (self._point[0] - shape + views * self._point[1])


@dataclass(frozen=True)
class MultiviewFlops:
    """`denoise`: of one step of all views of a picture, its caption included; `encode` and `decode`: of one view."""

    denoise: int
    text: int
    encode: int
    decode: int
    parameters: int

    @staticmethod
    def of(shapes: BackboneConfig | TextToImageConfig, config: MultiviewConfig) -> MultiviewFlops:
        """Of the pipeline of these shapes when it is widened. A base model's vocabulary, which is that of its captions,
        is taken to be empty: it holds few of the parameters."""
        if isinstance(shapes, TextToImageConfig):
            tokenizer = word_tokenizer([], shapes.tokens)
            with torch.device("meta"):
                base = TextToImage(shapes, tokenizer)
            pipeline = base.pipeline()  # its scheduler is no module, and needs its numbers
        else:
            with torch.device("meta"):
                pipeline = build_pipeline(shapes)
        model = MultiviewModel.begin(pipeline, config.model_copy(update={"objective": "pipeline"})).to("meta")
        with torch.device("meta"):
            views = torch.empty(1, 3, config.size, config.size)
            noise = torch.empty(1, *model.latent_shape())
            told = torch.zeros(1, shapes.tokens, dtype=torch.long)
            return MultiviewFlops(
                _counted(lambda: model.predict(noise, torch.empty(1), noise[:, 0], told)),
                _counted(lambda: model.text_encoder(told, return_dict=False)),
                _counted(lambda: model.encode(views)),
                _counted(lambda: model.decode(noise[:, 0])),
                sum(parameter.numel() for parameter in model.parameters()),
            )


def _counted(forward: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def parameters(config: LRMConfig | VideoConfig) -> int:
    """Of a whole model."""
    if isinstance(config, FlexRMConfig):
        return parameter_count(lambda: FlexRM(config))
    return parameter_count(lambda: LRM(config) if isinstance(config, LRMConfig) else build_video(config))
