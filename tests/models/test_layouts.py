"""Folders in the layout of diffusers: what may be read of them, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.layouts import read_part, weight_files


def write(folder: Path, name: str, **tensors: torch.Tensor) -> None:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name)


def test_weights_of_one_file_and_of_several(tmp_path: Path) -> None:
    weight, bias = torch.rand(2, 3), torch.rand(2)
    whole, parted = nn.Linear(3, 2), nn.Linear(3, 2)
    write(tmp_path / "whole", "model.safetensors", weight=weight.half(), bias=bias.half())
    write(tmp_path / "whole", "model.fp16.safetensors", weight=weight.half())
    read_part(whole, tmp_path / "whole")
    torch.testing.assert_close(whole.weight.detach(), weight, atol=1e-3, rtol=1e-3)
    assert whole.weight.dtype == torch.float32
    write(tmp_path / "parts", "a.safetensors", weight=weight)
    write(tmp_path / "parts", "b.safetensors", bias=bias)
    index = {"weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}
    (tmp_path / "parts" / "model.safetensors.index.json").write_text(json.dumps(index))
    read_part(parted, tmp_path / "parts")
    torch.testing.assert_close(parted.bias.detach(), bias)
    (tmp_path / "parts" / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b.safetensors is missing, but model.safetensors.index.json lists it"):
        weight_files(tmp_path / "parts")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unet is missing"):
        weight_files(tmp_path / "unet")
    (tmp_path / "unet").mkdir()
    with pytest.raises(ValueError, match=r"holds no \*.safetensors"):
        weight_files(tmp_path / "unet")
    (tmp_path / "unet" / "model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"model.bin is a pickle"):
        weight_files(tmp_path / "unet")
    write(tmp_path / "unet", "model.safetensors", weight=torch.rand(4, 3), bias=torch.rand(2))
    with pytest.raises(ValueError, match=r"weight \(4, 3\) instead of \(2, 3\)"):
        read_part(nn.Linear(3, 2), tmp_path / "unet")
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_part(nn.Linear(3, 2), tmp_path / "unet")
