"""A model from a path: ours and published ones, and files that are none."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.checkpoints import save
from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from models.published import to_published
from stages.errors import InputError
from stages.hashing import file_md5
from stages.reconstruction.config import ExportConfig
from stages.reconstruction.load import guessed_kind, load, read_shapes

SMALL: dict[str, Any] = {
    "camera_width": 8,
    "layers": 1,
    "heads": 2,
    "plane_tokens": 4,
    "channels": 4,
    "decoder_width": 8,
    "decoder_layers": 2,
    "samples": 4,
    "importance_samples": 4,
}


def small(width: int = 12, **encoder: Any) -> LRM:
    settings = {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2, **encoder}
    torch.manual_seed(0)
    return LRM(LRMConfig(encoder=EncoderConfig(**settings), width=width, **SMALL))


OVERRIDES = {"image_size": 16, "transformer_heads": 2, "encoder_heads": 2, "samples_per_ray": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = small()
    save(model, model.config, tmp_path / "model")
    return tmp_path / "model"


def test_our_model_by_folder_and_by_file(folder: Path) -> None:
    for path in (folder, folder / "model.safetensors", str(folder)):
        found = load(path)
        assert found.md5 == file_md5(folder / "model.safetensors")
        assert not found.lrm.training
        assert found.config == ExportConfig.model_validate({})


def test_three_lines_make_a_mesh(folder: Path, tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste((10, 120, 200), (10, 10, 30, 30))
    picture.save(tmp_path / "chair.png")
    config = ExportConfig.model_validate({"mesh": {"grid": 12, "texture": 32}})
    reconstruct = load(folder, config=config)
    torch.nn.init.constant_(reconstruct.lrm.synthesizer.decoder.net[-1].bias, 3.0)  # pyright: ignore
    assert [file.name for file in reconstruct(tmp_path / "chair.png").write(tmp_path / "chair.glb")] == ["chair.glb"]


@pytest.mark.parametrize("kind", ["vfusion3d", "openlrm-small", "openlrm-base"])
def test_published_names_are_known_without_a_word(kind: Any, tmp_path: Path) -> None:
    width, registers = {"vfusion3d": (12, 0), "openlrm-small": (512, 4), "openlrm-base": (768, 4)}[kind]
    model = small(width, registers=registers)
    file = tmp_path / "published.safetensors"
    weights = {name: tensor.contiguous() for name, tensor in to_published(model.state_dict(), kind).items()}
    save_file(weights, file)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["something of theirs"]}))
    assert guessed_kind(read_shapes(file)) == kind
    found = load(file, **OVERRIDES)
    assert torch.equal(found.lrm.transformer.pos_embed, model.transformer.pos_embed)
    assert found.config.radius == (1.0 if kind == "vfusion3d" else 2.0)
    assert found.config.mesh.threshold == (1.0 if kind == "vfusion3d" else 3.0)


def test_foreign_weights_name_the_first_wrong_key_and_the_shape_that_belongs_there(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["transformer.pos_embed"] = torch.zeros(1, 48, 13)
    weights["stranger"] = weights.pop("transformer.norm.bias")
    save_file(weights, file)
    with pytest.raises(InputError, match=r"transformer\.norm\.bias.*stranger.*pos_embed \(1, 48, 13\) instead of"):
        load(folder)
    save_file({"unet.conv.weight": torch.zeros(4, 4)}, folder / "other.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"holds no vfusion3d checkpoint: .* is missing, \(.*\) belongs there"):
        load(folder / "other.safetensors")
    with pytest.raises(InputError, match="no kind of model 'dreamfusion'"):
        load(folder / "other.safetensors", kind="dreamfusion")
    with pytest.raises(InputError, match=r"config\.json is no config"):
        load(folder / "other.safetensors", kind="orbitforge")


def test_a_mistake_in_a_config_of_ours_is_named(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"heads": -1}))
    with pytest.raises(InputError, match=r"config\.json: heads: .*greater than 0; put it right"):
        load(folder)


def test_weights_that_are_not_finite_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["transformer.pos_embed"][0, 3, 1] = float("inf")
    save_file(weights, file)
    with pytest.raises(
        InputError, match=r"model\.safetensors: transformer\.pos_embed holds numbers that are not finite"
    ):
        load(folder)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.bin")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    for name in ("model.bin", "old.pt"):
        with pytest.raises(InputError, match=f"{name} is a pickle"):
            load(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.95])
def test_files_cut_short_are_named(share: float, folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"model\.safetensors is no safetensors file that can be read"):
        load(folder)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name a safetensors file or a folder"):
        load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"model\.safetensors is no file"):
        load(tmp_path)


def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no device 'tpu-nine'"):
        load(folder, device="tpu-nine")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no device 'cuda' here"):
            load(folder, device="cuda")
