"""The settings of every model: plain data without torch. Defaults are those of the published models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator


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


class WanConfig(BaseModel):
    """A first-frame-conditioned video diffusion model whose clips are orbits: `frames` steps of 360 / frames degrees.

    Built from the diffusers classes of the Wan family (a diffusion transformer over space and time) and a frame
    autoencoder. The defaults are the tiny model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["wan"] = "wan"
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
    def _patches_divide_size(self) -> WanConfig:
        if self.size % (self.latent_patch * self.patch):
            raise ValueError(
                f"video size {self.size} is no multiple of latent_patch {self.latent_patch} x {self.patch}"
            )
        if self.width % self.heads:
            raise ValueError(f"video width {self.width} is no multiple of heads {self.heads}")
        return self


class ImageEncoderConfig(BaseModel):
    """The CLIP image encoder of Stable Video Diffusion. The default is the published one, ViT-H/14."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(224, gt=0)
    patch: int = Field(14, gt=0)
    width: int = Field(1280, gt=0)
    layers: int = Field(32, gt=0)
    heads: int = Field(16, gt=0)
    hidden: int = Field(5120, gt=0, description="width inside the feed-forward layers")
    activation: str = "gelu"


class SVDConfig(BaseModel):
    """Stable Video Diffusion: a UNet with spatial and temporal layers over the latents of a frame autoencoder.

    The defaults are the shapes and conditions of the published img2vid and img2vid-xt; `size` and `frames` are free,
    because no weight depends on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["svd"]
    size: int = Field(512, gt=0, description="pixels a side")
    frames: int = Field(16, ge=2)
    widths: tuple[int, ...] = Field((320, 640, 1280, 1280), min_length=2, description="of the UNet's levels")
    heads: tuple[int, ...] = Field((5, 10, 20, 20), description="attention heads of each level")
    layers: int = Field(2, gt=0, description="residual layers of a level")
    context: int = Field(1024, gt=0, description="width of the image embedding")
    time_width: int = Field(256, gt=0, description="width that each added time id is embedded in")
    latent_channels: int = Field(4, gt=0)
    autoencoder_widths: tuple[int, ...] = Field((128, 256, 512, 512), min_length=1)
    autoencoder_layers: int = Field(2, gt=0)
    scaling: float = Field(0.18215, gt=0, description="latents are multiplied by it")
    image_encoder: ImageEncoderConfig = ImageEncoderConfig.model_validate({})
    fps: int = Field(7, ge=1, description="frames a second that the model is told, unless sampling says otherwise")
    motion: int = Field(127, ge=0, description="motion bucket that the model is told, likewise")
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(700.0, gt=0, description="largest noise of a sampled clip")

    @model_validator(mode="after")
    def _sizes_fit(self) -> SVDConfig:
        if len(self.heads) != len(self.widths):
            raise ValueError(f"{len(self.heads)} numbers of heads for {len(self.widths)} widths; give one for each")
        for name, widths in (("widths", self.widths), ("autoencoder_widths", self.autoencoder_widths)):
            if bad := [width for width in widths if width % 32]:
                raise ValueError(f"{name}: {bad[0]} is no multiple of 32, which the group norms need")
        if bad := [pair for pair in zip(self.widths, self.heads, strict=True) if pair[0] % pair[1]]:
            raise ValueError(f"width {bad[0][0]} is no multiple of heads {bad[0][1]}")
        halvings = len(self.autoencoder_widths) + len(self.widths) - 2
        if self.size % 2**halvings:
            raise ValueError(f"video size {self.size} is no multiple of {2**halvings}; it is halved {halvings} times")
        return self


def _family(value: Any) -> str:
    """Folders from before there were families hold no such key: they are of the first one."""
    return value.get("family", "wan") if isinstance(value, dict) else value.family


VideoConfig = Annotated[Annotated[WanConfig, Tag("wan")] | Annotated[SVDConfig, Tag("svd")], Discriminator(_family)]
"""The settings of a video model; `family` says of which kind. See `models.video` for adding one."""


class DenoisingConfig(BaseModel):
    """How noise levels are drawn in training; each family reads its own keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pure_noise: float = Field(
        0.5, ge=0, le=1, description="wan: share of clips at level 1, where the whole motion is guessed"
    )
    sigma: tuple[float, float] = Field(
        (0.7, 1.6), description="svd: mean and deviation of the logarithm of the noise, relative to the latents"
    )
    augmentation: tuple[float, float] = Field(
        (-3.0, 0.5), description="svd: the same of the noise on the first frame, relative to pixels in -1..1"
    )
    noised_copies: int = Field(2, ge=1, description="svd: differently noised first frames that are encoded of a view")
    dropout: float = Field(
        0.1, ge=0, lt=1 / 3, description="svd: share of clips without embedding, without first frame, and without both"
    )


class SamplingConfig(BaseModel):
    """How clips are drawn from a video model, apart from the number of steps. Null takes the model's own value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    guidance: tuple[float, float] = Field(
        (1.0, 1.0), description="of the first and of the last frame, evenly between; (1, 1) leaves guidance out"
    )
    sampler: Literal["euler", "dpm++"] = Field(
        "euler", description="svd: Euler as in the published pipeline, or DPM-Solver++ of second order for few steps"
    )
    fps: int | None = Field(None, ge=1, description="svd: frames a second that the model is told")
    motion: int | None = Field(None, ge=0, description="svd: motion bucket that the model is told")
    augmentation: float = Field(0.02, ge=0, description="svd: noise on the first frame, pixels in -1..1")
    decode_chunk: int | None = Field(
        None, ge=1, description="frames of a clip decoded at once, null all; fewer save memory, and blend less in time"
    )


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
