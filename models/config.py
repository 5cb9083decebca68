"""The settings of every model: plain data without torch. Defaults are those of the published models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EncoderConfig(BaseModel):
    """A DINOv2 image encoder. The default is DINOv2-base as VFusion3D uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(512, gt=0, description="pixels a side that images are resized to")
    table_size: int = Field(518, gt=0, description="image size that the position table is made for")
    patch: int = Field(14, gt=0)
    width: int = Field(768, gt=0)
    layers: int = Field(12, gt=0)
    heads: int = Field(12, gt=0)
    registers: int = Field(0, ge=0, description="further tokens that only the encoder sees (OpenLRM: 4)")
    normalise: Literal["imagenet", "none"] = Field("imagenet", description="OpenLRM feeds 0..1 as it is")
    position_resize: Literal["size", "scale"] = Field(
        "size", description="how the position table is resampled: transformers 5 by size, 4.44 by scale factor"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> EncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"encoder width {self.width} is no multiple of heads {self.heads}")
        return self


class LRMConfig(BaseModel):
    """A tri-plane reconstruction model. The default is the published VFusion3D, 452,135,700 parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderConfig = EncoderConfig()  # pyright: ignore[reportCallIssue]
    camera_width: int = Field(1024, gt=0)
    width: int = Field(1024, gt=0)
    layers: int = Field(16, gt=0)
    heads: int = Field(16, gt=0)
    plane_tokens: int = Field(32, gt=0, description="tokens a side of each plane")
    upsampling: int = Field(2, gt=0, description="plane texels a side of each token")
    channels: int = Field(80, gt=0, description="of the planes")
    decoder_width: int = Field(64, gt=0)
    decoder_layers: int = Field(4, ge=2)
    samples: int = Field(64, ge=2, description="evenly spaced samples a ray")
    importance_samples: int = Field(64, ge=0, description="further samples a ray, where the first ones met matter")
    box: float = Field(1.0, gt=0, description="half side of the box that the planes span")
    background: float = Field(1.0, ge=0, le=1)
    density_bias: float = Field(0.0, description="raw density at the start of training; below 0 starts emptier")
    align: bool = Field(
        False,
        description="carry image tokens onto the planes through the input camera: a departure from the published "
        "model, for short trainings on few objects",
    )
    view_channels: int = Field(
        0,
        ge=0,
        description="features that a point reads where the input camera sees it, with the colours it may take from "
        "there; a departure as well, 0 leaves it out",
    )
    view_depths: int = Field(
        0,
        ge=0,
        description="features of a pixel that stand at this many depths of its ray, so that a point reads those of its "
        "own depth as well; 0 leaves them out",
    )
    depth_channels: int = Field(4, ge=1, description="features at each of those depths")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LRMConfig:
        if self.width % self.heads:
            raise ValueError(f"LRM width {self.width} is no multiple of heads {self.heads}")
        return self


class VideoConfig(BaseModel):
    """A first-frame-conditioned video diffusion model whose clips are orbits: `frames` steps of 360 / frames degrees.

    Built from the diffusers classes of the Wan family (a diffusion transformer over space and time) and a frame
    autoencoder. The defaults are the tiny model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(32, gt=0, description="pixels a side")
    frames: int = Field(8, ge=2)
    latent_patch: int = Field(4, gt=0, description="pixels a side of one latent position")
    latent_channels: int = Field(16, gt=0)
    autoencoder_width: int = Field(96, gt=0)
    autoencoder_blocks: int = Field(2, gt=0)
    patch: int = Field(2, gt=0, description="latent positions a side of one token")
    width: int = Field(128, gt=0)
    heads: int = Field(4, gt=0)
    layers: int = Field(6, gt=0)
    shift: float = Field(5.0, ge=1, description="moves noise levels up, where the motion is decided")

    @model_validator(mode="after")
    def _patches_divide_size(self) -> VideoConfig:
        if self.size % (self.latent_patch * self.patch):
            raise ValueError(
                f"video size {self.size} is no multiple of latent_patch {self.latent_patch} x {self.patch}"
            )
        if self.width % self.heads:
            raise ValueError(f"video width {self.width} is no multiple of heads {self.heads}")
        return self


class TextToImageConfig(BaseModel):
    """A small text-to-image diffusion model of the Stable Diffusion family. The defaults have 1.2 M parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(32, gt=0, description="pixels a side; latents have a quarter of them")
    latent_channels: int = Field(8, gt=0)
    autoencoder_width: int = Field(32, gt=0)
    widths: tuple[int, int] = Field((40, 64), description="channels of the denoiser at its two resolutions")
    heads: int = Field(4, gt=0)
    text_width: int = Field(64, gt=0)
    tokens: int = Field(24, gt=0, description="longest prompt, its start and end included")

    @model_validator(mode="after")
    def _sizes_fit(self) -> TextToImageConfig:
        if self.size % 8:
            raise ValueError(f"text-to-image size {self.size} is no multiple of 8")
        if any(width % 8 for width in self.widths):
            raise ValueError(f"text-to-image widths {self.widths} are no multiples of 8, the groups of their norms")
        return self
