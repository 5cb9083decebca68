"""Floating-point operations of the large models, counted on the meta device: no weight is ever made.

A multiplication and an addition count as two, as torch's counter has it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.checkpoints import parameter_count
from models.config import DenoisingConfig, EncoderConfig, LRMConfig, VideoConfig
from models.encoder import Encoder
from models.lrm import LRM
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
    width, inner = config.decoder_width, config.decoder_layers - 2
    decoder = 2 * (3 * config.channels * width + inner * width**2 + 4 * width)
    # the first pass is decoded as well, to know where importance samples belong
    return (config.samples + config.importance_samples) * decoder


def _counted(forward: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def parameters(config: LRMConfig | VideoConfig) -> int:
    """Of a whole model."""
    return parameter_count(lambda: LRM(config) if isinstance(config, LRMConfig) else build_video(config))
