"""LPIPS from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg16

from stages.config import WeightsConfig
from stages.errors import InputError
from stages.hashing import file_md5
from stages.perceptual import lpips


def named(file: Path) -> WeightsConfig:
    return WeightsConfig(at=str(file), md5=file_md5(file))


def test_lpips_is_loaded_from_torchvisions_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    kept = {name: value for name, value in vgg16(weights=None).state_dict().items() if name.startswith("features.")}
    save_file(kept, tmp_path / "vgg16.safetensors")
    distance = lpips(named(tmp_path / "vgg16.safetensors"))
    a, b = torch.rand(2, 2, 3, 32, 32).unbind(0)
    assert (distance(a, b) > 0).all()
    torch.testing.assert_close(distance(a, a), torch.zeros(2))


def test_other_files_are_named(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(3, 3)}, other)
    with pytest.raises(InputError, match=r"other\.safetensors is not torchvision's VGG-16.*missing: slice"):
        lpips(named(other))
    other.write_bytes(b"text")
    with pytest.raises(InputError, match="is not torchvision's VGG-16 as safetensors"):
        lpips(named(other))
