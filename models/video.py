"""Video diffusion models behind one interface: the first frame of an object in, a clip that circles it out.

A family is a module with one subclass of `VideoModel`, a config in `models.config.VideoConfig` that names it, and a
line in `build_video`: CogVideoX or LTX image-to-video would be no more than that. Callers know the interface alone.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoints import WEIGHTS, load_weights, save
from models.config import DenoisingConfig, SamplingConfig, VideoConfig

Condition = dict[str, Tensor]
"""What the denoiser is told beside the noisy latents; the first axis of every tensor counts clips."""

CONFIG: TypeAdapter[VideoConfig] = TypeAdapter(VideoConfig)


class VideoModel(nn.Module, ABC):
    """Frames are RGB in 0..1 on white; latents have about unit variance over the training frames."""

    config: Any  # one of VideoConfig
    denoiser: Any
    """The module that is fine-tuned; the others translate between frames and latents and stay as they are."""
    autoencoder: Any

    @abstractmethod
    def encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n f c h w"]:
        """Latents of every frame by itself."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "n f c h w"], chunk: int | None = None) -> Float[Tensor, "n f 3 s s"]:
        """Frames of latents, `chunk` of each clip at once; values may leave 0..1 a little."""

    @abstractmethod
    def conditions(
        self,
        frames: Float[Tensor, "n 3 s s"],
        latents: Float[Tensor, "n c h w"],
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> Condition:
        """What clips that begin with `frames` are told in training, each tensor [n, copies, ...]: a clip takes any of
        the copies. They are made once of each view and kept.
        """

    @abstractmethod
    def denoise(
        self, noisy: Float[Tensor, "n f c h w"], level: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n f c h w"]:
        """The clean latents expected behind `noisy` at noise `level`, in the units of the family."""

    @abstractmethod
    def loss(
        self,
        clean: Float[Tensor, "n f c h w"],
        condition: Condition,
        config: DenoisingConfig,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The family's training objective for latents of clips; "loss" is minimised."""

    @abstractmethod
    def sample(
        self,
        first: Float[Tensor, "n 3 s s"],
        noise: Float[Tensor, "n f c h w"],
        steps: int,
        settings: SamplingConfig = SamplingConfig(),  # noqa: B008  # pyright: ignore[reportCallIssue]
        grain: Float[Tensor, "n 3 s s"] | None = None,
    ) -> Float[Tensor, "n f 3 s s"]:
        """Clips in 0..1 that begin with (a copy of) the `first` frames, from unit `noise`.

        `grain` is the unit noise that `settings.augmentation` puts on the first frames; none without it. Raises
        ValueError for settings that the family does not know.
        """

    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(frames, channels, height, width) of the noise of one clip."""

    @abstractmethod
    def calibrate(self, frames: Float[Tensor, "n 3 s s"]) -> None:
        """Scale the latents by training frames, once the autoencoder is trained."""

    def learning(self) -> list[str]:
        """Names of the denoiser's parameters that can learn at all."""
        return [name for name, _ in self.denoiser.named_parameters()]

    @abstractmethod
    def temporal(self) -> list[str]:
        """Those of `learning` that act across frames alone; empty where no layer is of that kind."""

    @abstractmethod
    def attention(self) -> list[str]:
        """Names of the denoiser's linear layers that low-rank adapters sit on: projections of attention in time."""

    def draw_noise(self, generator: torch.Generator) -> tuple[Float[Tensor, "3 s s"] | None, Float[Tensor, "f c h w"]]:
        """(grain, noise) of one clip, as `sample` takes them."""
        return None, torch.randn(self.latent_shape(), generator=generator)

    def draw_noises(
        self, generators: Iterable[torch.Generator]
    ) -> tuple[Float[Tensor, "n 3 s s"] | None, Float[Tensor, "n f c h w"]]:
        """(grain, noise) of some clips, each from its own generator."""
        grains, noises = zip(*map(self.draw_noise, generators), strict=True)
        return None if any(grain is None for grain in grains) else torch.stack(grains), torch.stack(noises)

    def save(self, folder: Path) -> None:
        """Write config and weights; equal weights give equal bytes."""
        save(self, self.config, folder)

    def read(self, folder: Path) -> None:
        """Take the weights of a folder. Raises ValueError when they do not fit the config."""
        load_weights(self, load_file(folder / WEIGHTS), str(folder / WEIGHTS))

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device


def build_video(config: VideoConfig) -> VideoModel:
    """A model of the config's family with random weights. A further family is a line here."""
    if config.family == "svd":
        from models.svd import StableVideo

        return StableVideo(config)
    from models.wan import WanVideo

    return WanVideo(config)


def read_video_config(folder: Path) -> VideoConfig:
    """Raises FileNotFoundError when the folder holds no model, ValueError for a config that no family has."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} holds no video model")
    try:
        return CONFIG.validate_python(json.loads(path.read_text()))
    except (ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no config of a video model: {' '.join(str(error).split())}") from None


def load_video(folder: Path) -> VideoModel:
    """The model of a folder, whatever its family, in evaluation mode.

    Raises FileNotFoundError when the folder holds no model, ValueError when weights and config do not fit.
    """
    model = build_video(read_video_config(folder))
    model.read(folder)
    return model.eval()
