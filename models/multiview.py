"""The multi-view image model: one picture of an object in, its views at several elevations out.

A text-to-image pipeline of the Stable Diffusion family (diffusers' classes, see `models.text_to_image`) draws all views
as the cells of one image, so that its attention makes them agree (the grid of Instant3D, arXiv 2311.06214). Every cell
holds, beside its noisy latents, the latents of the picture and numbers that say where it stands; the first layer is
widened for them.

Flex3D does not tell the azimuth of its views: here it is the picture's own, so that exactly the view at the elevation
of the video model's orbit is one that both models make.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from models.checkpoints import read_config
from models.multiview_config import BackboneConfig, MultiviewConfig
from models.noising import CLEAN, Noising
from models.quiet import quiet

PLACES = 6
"""Numbers that tell a latent position its cell's elevation and where in the cell it is."""
PATH = "_name_or_path"
"""Where a part was loaded from, which diffusers writes down beside its settings."""


class MultiviewModel(nn.Module):
    """Pictures and views are RGB on white in 0..1. `pipeline` gives the parts, `config` the views.

    Raises ValueError for a pipeline whose first layer takes neither the latents alone (see `begin`) nor all that a
    cell holds, whose scheduler is not known, or whose autoencoder does not divide the size.
    """

    def __init__(self, pipeline: Any, config: MultiviewConfig) -> None:
        super().__init__()
        self.config = config
        self.unet, self.autoencoder, self.text_encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
        self.tokenizer, self.scheduler = pipeline.tokenizer, pipeline.scheduler
        self.channels = int(self.unet.config.out_channels)
        takes, needed = self.unet.conv_in.in_channels, 2 * self.channels + PLACES
        if takes != needed:
            raise ValueError(f"the UNet's first layer takes {takes} channels, a cell of the grid has {needed}")
        native = Noising.of(self.scheduler.config)
        self.noising = native if config.objective == "pipeline" else Noising(CLEAN, native.steps)
        halvings = len(self.autoencoder.config.block_out_channels) - 1
        if config.size % 2**halvings:
            raise ValueError(f"views of {config.size} px cannot be halved {halvings} times, as the autoencoder does")
        self.register_buffer("places", cell_places(config.elevations, config.size // 2**halvings), persistent=False)
        self.places: Tensor

    @staticmethod
    def begin(pipeline: Any, config: MultiviewConfig, seed: int = 0) -> MultiviewModel:
        """A model that starts from what a text-to-image pipeline can do; `pipeline` itself is changed.

        With the objective "change", what it draws at the start are copies of the picture.
        """
        channels = pipeline.unet.config.out_channels
        _widen(pipeline.unet, 2 * channels + PLACES)
        if config.objective == "change":
            with torch.no_grad():
                first, last = pipeline.unet.conv_in, pipeline.unet.conv_out
                first.weight[:, :channels] *= 0.1  # as in models.wan: noise starts small beside the picture
                first.weight[:, channels:].normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
                last.weight.zero_()
                last.bias.zero_()
        return MultiviewModel(pipeline, config)

    def encode(self, images: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n c h w"]:
        found = self.autoencoder.encode(2 * images - 1)
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return latents * self.autoencoder.config.scaling_factor

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 s s"]:
        images = self.autoencoder.decode(latents / self.autoencoder.config.scaling_factor, return_dict=False)[0]
        return (images + 1) / 2

    def tokens(self, captions: list[str]) -> Int64[Tensor, "n t"]:
        """Padded to what the text encoder takes, longer ones cut; an empty caption says nothing."""
        longest = self.tokenizer.model_max_length
        return self.tokenizer(
            captions, padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        ).input_ids

    def predict(
        self,
        noisy: Float[Tensor, "n v c h w"],
        level: Float[Tensor, " n"],
        picture: Float[Tensor, "n c h w"],
        tokens: Int64[Tensor, "n t"],
    ) -> Float[Tensor, "n v c h w"]:
        """What is said of noisy latents at noise `level` (0 clean, 1 noise), in the terms of `noising`."""
        n, v = noisy.shape[:2]
        shown = picture[:, None].expand_as(noisy)
        cells = torch.cat((noisy, shown, self.places.expand(n, -1, -1, -1, -1)), 2)
        text = self.text_encoder(tokens, return_dict=False)[0]
        grid = as_grid(cells, self.config.columns)
        drawn = self.unet(grid, self.noising.time(level), text, return_dict=False)[0]
        said = as_cells(drawn, v, self.config.columns)
        return said + shown if self.config.objective == "change" else said

    def loss(
        self,
        clean: Float[Tensor, "n v c h w"],
        picture: Float[Tensor, "n c h w"],
        tokens: Int64[Tensor, "n t"],
        pure_noise: float,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Squared error of what is said; a share `pure_noise` of the samples is at level 1."""
        n = len(clean)
        level = torch.rand(n, generator=generator).clamp(min=1 / self.noising.steps)
        level = torch.where(torch.rand(n, generator=generator) < pure_noise, 1.0, level).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        said = self.predict(self.noising.mixed(clean, noise, level), level, picture, tokens)
        return {"loss": (said - self.noising.wanted(clean, noise, level)).square().mean()}

    @torch.no_grad()
    def sample(
        self, pictures: Float[Tensor, "n 3 s s"], captions: list[str], noise: Float[Tensor, "n v c h w"], steps: int
    ) -> Float[Tensor, "n v 3 s s"]:
        """Views in 0..1 from unit `noise`, in `steps` steps of DDIM (on the straight path: of Euler)."""
        picture, tokens = self.encode(pictures), self.tokens(captions).to(noise.device)
        x = noise
        for now, then in pairwise(torch.linspace(1, 0, steps + 1).to(noise)):
            level = now.expand(len(x))
            clean, rest = self.noising.parts(x, self.predict(x, level, picture, tokens), level)
            x = self.noising.mixed(clean, rest, then.expand(len(x)))
        return self.decode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).clamp(0, 1)

    def latent_shape(self) -> tuple[int, int, int, int]:
        """(views, channels, height, width) of the noise of one picture."""
        views, _, height, width = self.places.shape
        return views, self.channels, height, width

    def save(self, folder: Path) -> None:
        """The diffusers layout and our config.json beside it; equal weights give equal bytes."""
        parts = (self.autoencoder, self.text_encoder, self.tokenizer, self.unet, self.scheduler)
        with quiet():
            _pipeline(*parts).save_pretrained(folder)
        for file in folder.glob("*/*.json"):
            settings = json.loads(file.read_text())
            if settings.pop(PATH, None) is not None:
                file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
        text = json.dumps(self.config.model_dump(mode="json"), indent=1, sort_keys=True)
        (folder / "config.json").write_text(text + "\n")

    @property
    def device(self) -> torch.device:
        return self.places.device


def load_multiview(folder: Path) -> MultiviewModel:
    """The model of a folder, in evaluation mode.

    Raises FileNotFoundError when the folder holds none, ValueError when its parts do not fit.
    """
    config = read_config(folder, MultiviewConfig)
    try:
        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, safety_checker=None
            )
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{folder} holds no whole multi-view model: {' '.join(str(error).split())[:200]}") from None
    return MultiviewModel(pipeline, config).eval()


def build_pipeline(shapes: BackboneConfig) -> Any:
    """A pipeline of these shapes with random weights and without a tokenizer."""
    widths, crossed = shapes.widths, len(shapes.widths) - 1
    levels = len(shapes.autoencoder_widths)
    unet = UNet2DConditionModel(
        in_channels=shapes.latent_channels,
        out_channels=shapes.latent_channels,
        block_out_channels=widths,
        layers_per_block=shapes.layers,
        down_block_types=("CrossAttnDownBlock2D",) * crossed + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * crossed,
        cross_attention_dim=shapes.text_width,
        attention_head_dim=shapes.heads,
    )
    blocks: dict[str, Any] = {  # diffusers declares tuples of one
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": shapes.autoencoder_widths,
    }
    autoencoder = AutoencoderKL(
        **blocks, layers_per_block=shapes.autoencoder_layers, latent_channels=shapes.latent_channels
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=shapes.vocabulary,
            hidden_size=shapes.text_width,
            intermediate_size=shapes.text_hidden,
            num_hidden_layers=shapes.text_layers,
            num_attention_heads=shapes.text_heads,
            max_position_embeddings=shapes.tokens,
            projection_dim=shapes.text_width,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    return _pipeline(autoencoder, text_encoder, None, unet, scheduler)


def _widen(unet: Any, channels: int) -> None:
    """Let the first layer take `channels` channels; what is new counts nothing until it is trained."""
    old = unet.conv_in
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, padding=old.padding, device=old.weight.device)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)  # pyright: ignore[reportOptionalMemberAccess]
    unet.conv_in = new
    unet.register_to_config(in_channels=channels)


def cell_places(elevations: tuple[float, ...], side: int) -> Float[Tensor, "v 6 side side"]:
    """Sine and cosine of each cell's elevation, doubled to the range of latents, and (x, y) with their waves."""
    angle = torch.deg2rad(torch.tensor(elevations))
    axis = torch.linspace(-1, 1, side, device=angle.device)  # transformers may leave torch a linspace of its own
    turn, y, x = torch.meshgrid(angle, axis, axis, indexing="ij")
    return 2 * torch.stack((turn.sin(), turn.cos(), x, y, (math.pi * x).sin(), (math.pi * y).sin()), 1)


def as_grid(cells: Float[Tensor, "n v c h w"], columns: int) -> Float[Tensor, "n c gh gw"]:
    n, v, c, h, w = cells.shape
    rows = v // columns
    return cells.view(n, rows, columns, c, h, w).permute(0, 3, 1, 4, 2, 5).reshape(n, c, rows * h, columns * w)


def as_cells(grid: Float[Tensor, "n c gh gw"], views: int, columns: int) -> Float[Tensor, "n v c h w"]:
    n, c, height, width = grid.shape
    rows = views // columns
    cells = grid.view(n, c, rows, height // rows, columns, width // columns).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(n, views, c, height // rows, width // columns)


def _pipeline(autoencoder: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any) -> Any:
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
