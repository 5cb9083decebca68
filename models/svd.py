"""The Stable Video Diffusion family, from the diffusers classes: public weights (img2vid, img2vid-xt) fit.

The denoiser is preconditioned as in EDM (Karras et al., arXiv 2206.00364) with v-prediction and latents of unit
deviation: D(x; s) = c_skip x + c_out F(c_in x; c_noise), c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1),
c_in = 1 / sqrt(s^2 + 1), c_noise = log(s) / 4. The first frame's latents stand beside those of every frame, its CLIP
embedding enters by cross attention, and frames a second, motion and the noise on the first frame are told as numbers
(Stable Video Diffusion, arXiv 2311.15127).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EDMDPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils import logging

from models.config import DenoisingConfig, SamplingConfig, SVDConfig
from models.layouts import read_part
from models.lone_token import attend_to_lone_tokens
from models.video import Condition, VideoModel

PARTS = {"unet": "denoiser", "vae": "autoencoder", "image_encoder": "image_encoder"}
"""Folder of the diffusers layout -> attribute."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEMPORAL = ("temporal_transformer_blocks", "temporal_res_block", "time_mixer", "time_pos_embed")


class StableVideo(VideoModel):
    """Latents are multiplied by `config.scaling`; noise levels are standard deviations beside them."""

    def __init__(self, config: SVDConfig) -> None:
        super().__init__()
        self.config = config
        self.denoiser = UNetSpatioTemporalConditionModel(**unet_settings(config))
        self.autoencoder = AutoencoderKLTemporalDecoder(**autoencoder_settings(config))
        self.image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**image_encoder_settings(config)))
        attend_to_lone_tokens(self.denoiser)

    def encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n f c h w"]:
        return self.config.scaling * self._latents(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def decode(self, latents: Float[Tensor, "n f c h w"], chunk: int | None = None) -> Float[Tensor, "n f 3 s s"]:
        frames = []
        for part in (latents / self.config.scaling).split(chunk or latents.shape[1], 1):
            flat = self.autoencoder.decode(part.flatten(0, 1), num_frames=part.shape[1], return_dict=False)[0]
            frames.append(flat.unflatten(0, part.shape[:2]))
        return torch.cat(frames, 1) / 2 + 0.5

    def embed(self, frames: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n e"]:
        """CLIP embeddings, of images resized as the published pipeline does."""
        side, target = frames.shape[-1], self.config.image_encoder.image_size
        images = 2 * frames - 1
        if side > target:  # against aliasing
            deviation = max((side / target - 1) / 2, 1e-3)
            images = gaussian_blur(images, [max(int(4 * deviation), 3) // 2 * 2 + 1] * 2, [deviation] * 2)
        images = F.interpolate(images, size=(target, target), mode="bicubic", align_corners=True) / 2 + 0.5
        mean, std = (images.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        return self.image_encoder((images - mean) / std).image_embeds

    def condition(
        self,
        frames: Float[Tensor, "n 3 s s"],
        grain: Float[Tensor, "n 3 s s"] | None,
        strength: Float[Tensor, " n"],
        fps: int | None = None,
        motion: int | None = None,
    ) -> Condition:
        """What clips that begin with `frames` are told, the frames noised by `strength` times the unit `grain`."""
        noised = 2 * frames - 1
        if grain is not None:
            noised = noised + strength[:, None, None, None] * grain
        # the model was trained on one frame a second less than it is told
        told = strength.new_tensor([(fps or self.config.fps) - 1, self.config.motion if motion is None else motion])
        return {
            "first": self._latents(noised, shift=False),  # not scaled: so is the published model
            "embedding": self.embed(frames),
            "told": torch.cat((told.expand(len(frames), 2), strength[:, None]), 1),
        }

    def conditions(
        self,
        frames: Float[Tensor, "n 3 s s"],
        latents: Float[Tensor, "n c h w"],
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> Condition:
        n, copies = len(frames), config.noised_copies
        mean, deviation = config.augmentation
        strength = (mean + deviation * torch.randn(n, copies, generator=generator)).exp().to(frames.device)
        grain = torch.randn(n, copies, *frames.shape[1:], generator=generator).to(frames.device)
        noised = 2 * frames[:, None] - 1 + strength[..., None, None, None] * grain
        told = frames.new_tensor([self.config.fps - 1, self.config.motion]).expand(n, copies, 2)
        return {
            "first": self._latents(noised.flatten(0, 1), shift=False).unflatten(0, (n, copies)),
            "embedding": self.embed(frames)[:, None],
            "told": torch.cat((told, strength[..., None]), -1),
        }

    def denoise(
        self, noisy: Float[Tensor, "n f c h w"], level: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n f c h w"]:
        variance = level[:, None, None, None, None] ** 2
        scaled = noisy / (variance + 1).sqrt()
        velocity = self._network(scaled, level.log() / 4, condition)
        return noisy / (variance + 1) - velocity * (variance / (variance + 1)).sqrt()

    def loss(
        self,
        clean: Float[Tensor, "n f c h w"],
        condition: Condition,
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Squared error of the clean latents, weighted by (s^2 + 1) / s^2: that of the predicted velocity."""
        n, (mean, deviation) = len(clean), config.sigma
        sigma = (mean + deviation * torch.randn(n, generator=generator)).exp().to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        drop = torch.rand(n, generator=generator).to(clean.device)
        embedded = (drop >= 2 * config.dropout).to(clean)
        shown = ((drop < config.dropout) | (drop >= 3 * config.dropout)).to(clean)
        told = condition | {
            "embedding": embedded[:, None] * condition["embedding"],
            "first": shown[:, None, None, None] * condition["first"],
        }
        level = sigma[:, None, None, None, None]
        predicted = self.denoise(clean + level * noise, sigma, told)
        return {"loss": ((level**2 + 1) / level**2 * (predicted - clean).square()).mean()}

    @torch.no_grad()
    def sample(
        self,
        first: Float[Tensor, "n 3 s s"],
        noise: Float[Tensor, "n f c h w"],
        steps: int,
        settings: SamplingConfig = SamplingConfig(),  # noqa: B008  # pyright: ignore[reportCallIssue]
        grain: Float[Tensor, "n 3 s s"] | None = None,
    ) -> Float[Tensor, "n f 3 s s"]:
        """The published pipeline's steps for many clips at once. With guidance both halves share a pass."""
        strength = first.new_full((len(first),), settings.augmentation)
        condition = self.condition(first, grain, strength, settings.fps, settings.motion)
        guided = max(settings.guidance) > 1
        if guided:
            blank = condition | {name: torch.zeros_like(condition[name]) for name in ("first", "embedding")}
            condition = {name: torch.cat((blank[name], condition[name])) for name in condition}
        weight = torch.linspace(*settings.guidance, noise.shape[1], device=noise.device)[:, None, None, None]
        scheduler = self.scheduler(settings.sampler)
        scheduler.set_timesteps(steps, device=noise.device)
        x = noise * scheduler.init_noise_sigma
        for level in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, level)
            velocity = self._network(torch.cat((scaled, scaled)) if guided else scaled, level, condition)
            if guided:
                without, given = velocity.chunk(2)
                velocity = without + weight * (given - without)
            x = scheduler.step(velocity, level, x, return_dict=False)[0]
        return self.decode(x, settings.decode_chunk).clamp(0, 1)

    def scheduler(self, sampler: str = "euler") -> Any:
        """A fresh scheduler of diffusers: the published one, or a second-order solver on the same noise levels."""
        low, high = self.config.sigma_min, self.config.sigma_max
        if sampler == "dpm++":
            return EDMDPMSolverMultistepScheduler(
                sigma_min=low, sigma_max=high, sigma_data=1.0, prediction_type="v_prediction"
            )
        return EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            use_karras_sigmas=True,
            sigma_min=low,
            sigma_max=high,
            timestep_spacing="leading",
            timestep_type="continuous",
            steps_offset=1,
        )

    def latent_shape(self) -> tuple[int, int, int, int]:
        side = self.config.size // 2 ** (len(self.config.autoencoder_widths) - 1)
        return self.config.frames, self.config.latent_channels, side, side

    def draw_noise(self, generator: torch.Generator) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "f c h w"]]:
        """In the order of the published pipeline: first that of the first frame, then that of the latents."""
        side = self.config.size
        grain = torch.randn(1, 3, side, side, generator=generator)[0]
        return grain, torch.randn(1, *self.latent_shape(), generator=generator)[0]

    @torch.no_grad()
    def calibrate(self, frames: Float[Tensor, "n 3 s s"]) -> None:
        """Sets `config.scaling`."""
        self.config = self.config.model_copy(update={"scaling": 1 / float(self._latents(frames).std())})
        self.autoencoder.register_to_config(scaling_factor=self.config.scaling)

    def learning(self) -> list[str]:
        """All but the queries and keys of attention to a lone token, whose gradient is zero."""
        return [name for name, _ in self.denoiser.named_parameters() if not _idle(name)]

    def temporal(self) -> list[str]:
        return [name for name in self.learning() if any(part in name for part in TEMPORAL)]

    def attention(self) -> list[str]:
        linear = (name for name, module in self.denoiser.named_modules() if isinstance(module, nn.Linear))
        return [
            name for name in linear if "temporal_transformer_blocks" in name and ".attn" in name and not _idle(name)
        ]

    def save(self, folder: Path) -> None:
        """The diffusers layout, which stock pipelines load as well, and our config.json beside it."""
        logging.disable_progress_bar()
        self.pipeline().save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(self.config.model_dump(mode="json"), indent=1) + "\n")

    def read(self, folder: Path) -> None:
        """Take the weights of a diffusers layout. Raises ValueError for parts that are missing, pickled, or of other
        shapes than the config says."""
        for part, name in PARTS.items():
            read_part(getattr(self, name), folder / part)

    def pipeline(self) -> Any:
        """The stock pipeline around these very weights."""
        from diffusers import StableVideoDiffusionPipeline
        from transformers import CLIPImageProcessor

        processor = CLIPImageProcessor(image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD))
        return StableVideoDiffusionPipeline(
            self.autoencoder, self.image_encoder, self.denoiser, self.scheduler(), processor
        )

    def _latents(self, images: Float[Tensor, "n 3 s s"], shift: bool = True) -> Float[Tensor, "n c h w"]:
        """The mode of the autoencoder's distribution for images in 0..1, or in -1..1 without `shift`."""
        return self.autoencoder.encode(2 * images - 1 if shift else images, return_dict=False)[0].mode()

    def _network(
        self, scaled: Float[Tensor, "n f c h w"], level: Float[Tensor, ...], condition: Condition
    ) -> Float[Tensor, "n f c h w"]:
        first = condition["first"][:, None].expand(-1, scaled.shape[1], -1, -1, -1)
        return self.denoiser(
            torch.cat((scaled, first), 2),
            level,
            encoder_hidden_states=condition["embedding"][:, None],
            added_time_ids=condition["told"],
            return_dict=False,
        )[0]


def _idle(name: str) -> bool:
    """Whether a parameter or layer of the UNet only asks, where there is a single answer."""
    return "transformer_blocks" in name and any(
        part in f"{name}." for part in (".norm2.", ".attn2.to_q.", ".attn2.to_k.")
    )


def unet_settings(config: SVDConfig) -> dict[str, Any]:
    """What the diffusers class is built with."""
    crossed = len(config.widths) - 1
    return {
        "sample_size": config.size // 2 ** (len(config.autoencoder_widths) - 1),
        "in_channels": 2 * config.latent_channels,
        "out_channels": config.latent_channels,
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal",) * crossed + ("DownBlockSpatioTemporal",),
        "up_block_types": ("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * crossed,
        "block_out_channels": config.widths,
        "addition_time_embed_dim": config.time_width,
        "projection_class_embeddings_input_dim": 3 * config.time_width,
        "layers_per_block": config.layers,
        "cross_attention_dim": config.context,
        "num_attention_heads": config.heads,
        "num_frames": config.frames,
    }


def autoencoder_settings(config: SVDConfig) -> dict[str, Any]:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * len(config.autoencoder_widths),
        "block_out_channels": config.autoencoder_widths,
        "layers_per_block": config.autoencoder_layers,
        "latent_channels": config.latent_channels,
        "sample_size": config.size,
        "scaling_factor": config.scaling,
    }


def image_encoder_settings(config: SVDConfig) -> dict[str, Any]:
    encoder = config.image_encoder
    return {
        "image_size": encoder.image_size,
        "patch_size": encoder.patch,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.layers,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.hidden,
        "hidden_act": encoder.activation,
        "projection_dim": config.context,
    }
