"""A few blocks on small rings, and the small models that make candidate views of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch

from models.config import TextToImageConfig, WanConfig
from models.multiview import MultiviewModel
from models.multiview_config import MultiviewConfig
from models.text_to_image import TextToImage, word_tokenizer
from models.video import build_video
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.rings import RingsConfig, on_rings
from stages.rendering.views import render_shard
from tests.stages.blocks import write_blocks

SIZE = 16
RINGS = RingsConfig(azimuths=4)  # pyright: ignore[reportCallIssue]
RENDERING = RenderingConfig.model_validate({"size": SIZE, "supersampling": 1})
VIDEO = WanConfig.model_validate(
    {"size": SIZE, "frames": 4, "width": 32, "heads": 2, "layers": 1, "autoencoder_width": 16, "autoencoder_blocks": 1}
)


def text_to_image() -> TextToImage:
    """Random weights."""
    torch.manual_seed(0)
    config = TextToImageConfig.model_validate(
        {"size": SIZE, "latent_channels": 4, "autoencoder_width": 16, "widths": [8, 16], "text_width": 16}
    )
    return TextToImage(config, word_tokenizer(["a red block"], 24))


def write_rings(root: Path, *, train: int = 2, held_out: int = 1) -> pl.DataFrame:
    """Meshes, their rings in `shards/`, manifest.parquet and a pipeline in `base/`; returns the objects."""
    objects = write_blocks(root, train=train, validation=0, held_out=held_out)
    shard = root / "shards" / "000"
    shard.mkdir(parents=True)
    render_shard(objects, root, shard, on_rings(RINGS, RENDERING), seed=0, report=lambda event: None)
    write_manifest(root / "shards", root)
    text_to_image().save(root / "base")
    return objects


def write_models(root: Path) -> None:
    """A multi-view model in `multiview/` and a video model in `video/`, with random weights."""
    config = MultiviewConfig(size=SIZE)  # pyright: ignore[reportCallIssue]
    MultiviewModel.begin(text_to_image().pipeline(), config).save(root / "multiview")
    build_video(VIDEO).save(root / "video")
