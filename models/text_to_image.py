"""A small text-to-image model made of the stock classes, so that it is saved and used as any Stable Diffusion is.

Flow matching between clean latents x0 and noise e: x_t = (1 - t) x0 + t e; the network predicts the velocity e - x0.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.config import TextToImageConfig

LEVELS = 1000
"""What the schedulers call the noise level 1."""


def word_tokenizer(texts: Iterable[str], tokens: int) -> CLIPTokenizer:
    """A byte-pair tokenizer in which each word of `texts` is one token; other words fall into letters."""
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = CLIPTokenizer().train_new_from_iterator([words], vocab_size=8192, show_progress=False)
    tokenizer.model_max_length = tokens
    return tokenizer


class TextToImage(nn.Module):
    """Images are RGB in 0..1; the autoencoder is taught to give latents of mean 0 and variance 1."""

    def __init__(self, config: TextToImageConfig, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        width, channels = (config.autoencoder_width,) * 3, config.latent_channels
        self.autoencoder = AutoencoderTiny(
            encoder_block_out_channels=width,
            decoder_block_out_channels=width,
            num_encoder_blocks=(0, 1, 2),
            num_decoder_blocks=(2, 1, 0),
            latent_channels=channels,
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.text_width,
                intermediate_size=config.text_width,
                num_hidden_layers=1,
                num_attention_heads=4,
                max_position_embeddings=config.tokens,
                projection_dim=config.text_width,
                bos_token_id=_id(tokenizer, tokenizer.bos_token),
                eos_token_id=_id(tokenizer, tokenizer.eos_token),
                pad_token_id=_id(tokenizer, tokenizer.pad_token),
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=config.size // 4,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=config.widths,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type=None,  # pyright: ignore[reportArgumentType]
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=config.text_width,
            attention_head_dim=config.heads,
            norm_num_groups=8,
        )

    def tokens(self, texts: list[str]) -> Int64[Tensor, "n t"]:
        """As the pipeline makes them: padded to `config.tokens`, longer ones cut."""
        padded = self.tokenizer(
            texts, padding="max_length", max_length=self.config.tokens, truncation=True, return_tensors="pt"
        )
        return padded.input_ids

    def encode(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n c h w"]:
        return self.autoencoder.encode(2 * images - 1, return_dict=False)[0]

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 s s"]:
        return (self.autoencoder.decode(latents, return_dict=False)[0] + 1) / 2

    def velocity(
        self, noisy: Float[Tensor, "n c h w"], level: Float[Tensor, " n"], tokens: Int64[Tensor, "n t"]
    ) -> Float[Tensor, "n c h w"]:
        """Noise minus clean latents, as expected behind `noisy` at noise `level` (0 clean, 1 noise)."""
        text = self.text_encoder(tokens, return_dict=False)[0]
        return self.unet(noisy, LEVELS * level, text, return_dict=False)[0]

    def pipeline(self) -> StableDiffusionPipeline:
        """The same modules as a diffusers pipeline."""
        return StableDiffusionPipeline(
            vae=self.autoencoder,  # pyright: ignore[reportArgumentType]
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=DPMSolverMultistepScheduler(
                num_train_timesteps=LEVELS,
                prediction_type="flow_prediction",
                use_flow_sigmas=True,
                final_sigmas_type="zero",
                steps_offset=1,
            ),  # pyright: ignore[reportArgumentType]
            safety_checker=None,  # pyright: ignore[reportArgumentType]
            feature_extractor=None,  # pyright: ignore[reportArgumentType]
            requires_safety_checker=False,
        )

    def save(self, folder: Path) -> None:
        """A pipeline folder with float16 safetensors."""
        self.pipeline().to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


def _id(tokenizer: CLIPTokenizer, token: object) -> int:
    found = tokenizer.convert_tokens_to_ids(str(token))
    assert isinstance(found, int)
    return found
