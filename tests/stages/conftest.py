"""Small networks with random weights, as their libraries save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.quality.features import OPEN_CLIP_WEIGHTS


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(
        {"image_size": 32, "table_size": 32, "patch": 8, "width": 24, "layers": 1, "heads": 2}
    )
    save(Encoder(config), config, folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 as transformers saves one."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(1)
    shape = {"image_size": 56, "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**shape)).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Weights of a CLIP-class model, and its architecture's name."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    towers = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(towers))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(2)
    model: Any = open_clip.create_model("tiny-clip")
    save_file(model.state_dict(), folder / OPEN_CLIP_WEIGHTS)
    return folder / OPEN_CLIP_WEIGHTS, "tiny-clip"
