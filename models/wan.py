"""The Wan family: a diffusion transformer with full attention over space and time, at any width.

Flow matching between clean latents x0 and noise e: x_t = (1 - t) x0 + t e. The network predicts x0. What made short
trainings leave the plateau of repeating the first frame (facts on CPU training, confirmed here): the first frame's
latents stand in every frame's tokens, residual branches do not start at zero, the noisy input starts small beside
them, and every token knows where it stands on the orbit.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from diffusers import AutoencoderTiny, WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from models.config import DenoisingConfig, SamplingConfig, WanConfig
from models.video import Condition, VideoModel

POSITIONS = 15
TEXT_WIDTH = 32  # the text slot of the Wan classes; empty until a text encoder stands


class WanVideo(VideoModel):
    """Latents have unit variance per channel over the training frames; noise levels are 0 (clean) to 1."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        c, pixels = config.latent_channels, 3 * config.latent_patch**2
        # The patch autoencoder has no group norm: at narrow widths 32 groups normalise every channel by itself and
        # colour is lost (chroma slope 0.01 with the SVD autoencoder).
        self.autoencoder = AutoencoderTiny(
            in_channels=pixels,
            out_channels=pixels,
            encoder_block_out_channels=(config.autoencoder_width,),
            decoder_block_out_channels=(config.autoencoder_width,),
            num_encoder_blocks=(config.autoencoder_blocks,),
            num_decoder_blocks=(config.autoencoder_blocks,),
            latent_channels=c,
        )
        self.denoiser = WanTransformer3DModel(
            patch_size=(1, config.patch, config.patch),
            num_attention_heads=config.heads,
            attention_head_dim=config.width // config.heads,
            in_channels=2 * c + POSITIONS,
            out_channels=c,
            text_dim=TEXT_WIDTH,
            freq_dim=64,
            ffn_dim=4 * config.width,
            num_layers=config.layers,
            cross_attn_norm=False,
            rope_max_seq_len=64,
        )
        with torch.no_grad():
            self.denoiser.patch_embedding.weight[:, :c] *= 0.1
            for name, table in self.denoiser.blocks.named_parameters():
                if name.endswith("scale_shift_table"):
                    table[:, [2, 5]] = 1.0  # the gates of attention and feed-forward
        self.register_buffer("latent_mean", torch.zeros(c))
        self.register_buffer("latent_std", torch.ones(c))
        side = config.size // config.latent_patch
        self.register_buffer("positions", orbit_positions(config.frames, side), persistent=False)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.positions: Tensor

    def encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n f c h w"]:
        patches = F.pixel_unshuffle(2 * frames.flatten(0, 1) - 1, self.config.latent_patch)
        latents = self.autoencoder.encode(patches, return_dict=False)[0]
        return self._normalised(latents).unflatten(0, frames.shape[:2])

    def decode(self, latents: Float[Tensor, "n f c h w"], chunk: int | None = None) -> Float[Tensor, "n f 3 s s"]:
        if chunk is not None and chunk < latents.shape[1]:  # frames know nothing of each other here
            return torch.cat([self.decode(part) for part in latents.split(chunk, 1)], 1)
        std, mean = self.latent_std[:, None, None], self.latent_mean[:, None, None]
        patches = self.autoencoder.decode(latents.flatten(0, 1) * std + mean, return_dict=False)[0]
        return ((F.pixel_shuffle(patches, self.config.latent_patch) + 1) / 2).unflatten(0, latents.shape[:2])

    def conditions(
        self,
        frames: Float[Tensor, "n 3 s s"],
        latents: Float[Tensor, "n c h w"],
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> Condition:
        return {"first": latents[:, None]}

    def denoise(
        self, noisy: Float[Tensor, "n f c h w"], level: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n f c h w"]:
        n, f = noisy.shape[:2]
        channels = (
            noisy.transpose(1, 2),
            condition["first"][:, :, None].expand(-1, -1, f, -1, -1),
            self.positions.expand(n, -1, -1, -1, -1),
        )
        text = noisy.new_zeros(n, 1, TEXT_WIDTH)
        return self.denoiser(torch.cat(channels, 1), 1000 * level, text, return_dict=False)[0].transpose(1, 2)

    def loss(
        self,
        clean: Float[Tensor, "n f c h w"],
        condition: Condition,
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Mean squared error of the clean latents predicted from noisy ones and the first frame."""
        n = len(clean)
        level = shifted(torch.rand(n, generator=generator), self.config.shift)
        level = torch.where(torch.rand(n, generator=generator) < config.pure_noise, 1.0, level).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        mixed = level[:, None, None, None, None]
        predicted = self.denoise((1 - mixed) * clean + mixed * noise, level, condition)
        return {"loss": (predicted - clean).square().mean()}

    @torch.no_grad()
    def sample(
        self,
        first: Float[Tensor, "n 3 s s"],
        noise: Float[Tensor, "n f c h w"],
        steps: int,
        settings: SamplingConfig = SamplingConfig(),  # noqa: B008  # pyright: ignore[reportCallIssue]
        grain: Float[Tensor, "n 3 s s"] | None = None,
    ) -> Float[Tensor, "n f 3 s s"]:
        """`steps` Euler steps from the noise."""
        if settings.guidance != (1.0, 1.0) or settings.sampler != "euler":
            raise ValueError(
                f"guidance {list(settings.guidance)} and sampler {settings.sampler!r} are not of the wan family, which "
                "is trained without dropout: choose guidance [1, 1] and sampler euler"
            )
        condition = {"first": self.encode(first[:, None])[:, 0]}
        levels = shifted(torch.linspace(1, 0, steps + 1), self.config.shift).to(noise.device)
        x = noise
        for now, then in pairwise(levels):
            clean = self.denoise(x, now.expand(len(x)), condition)
            x = x + (then - now) / now * (x - clean)
        return self.decode(x, settings.decode_chunk).clamp(0, 1)

    def temporal(self) -> list[str]:
        return []  # every layer attends over space and time at once

    def attention(self) -> list[str]:
        names = ("to_q", "to_k", "to_v", "to_out.0")
        return [f"blocks.{block}.attn1.{name}" for block in range(self.config.layers) for name in names]

    def latent_shape(self) -> tuple[int, int, int, int]:
        side = self.config.size // self.config.latent_patch
        return self.config.frames, self.config.latent_channels, side, side

    @torch.no_grad()
    def calibrate(self, frames: Float[Tensor, "n 3 s s"]) -> None:
        """Set the latents' mean and deviation from training frames."""
        self.latent_mean.zero_()
        self.latent_std.fill_(1)
        latents = self.encode(frames[:, None]).transpose(0, 2).flatten(1)
        self.latent_mean.copy_(latents.mean(1))
        self.latent_std.copy_(latents.std(1).clamp(min=1e-3))

    def _normalised(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]


def shifted(level: Float[Tensor, " n"], shift: float) -> Float[Tensor, " n"]:
    """Noise levels moved towards 1, as flow-matching schedulers do for larger images."""
    return shift * level / (1 + (shift - 1) * level)


def orbit_positions(frames: int, side: int) -> Float[Tensor, "15 f s s"]:
    """Where every token stands: the frame's azimuth phi, its place (x, y) in the frame, and their products.

    Where a point seen at x goes after a turn is x cos(phi) - z sin(phi) with its unknown depth z; given the products,
    attention has to find the depth only.
    """
    phi = 2 * math.pi / frames * torch.arange(frames)
    axis = torch.linspace(-1, 1, side, device=phi.device)  # transformers may leave torch a linspace of its own
    phi, y, x = torch.meshgrid(phi, axis, axis, indexing="ij")
    cos, sin = phi.cos(), phi.sin()
    first = (phi == 0).float()
    turned = (x * cos, x * sin, y * cos, y * sin, (2 * phi).cos(), (2 * phi).sin())
    waves = ((math.pi * x).sin(), (math.pi * x).cos(), (math.pi * y).sin(), (math.pi * y).cos())
    return 2 * torch.stack((cos, sin, first, x, y, *turned, *waves))
