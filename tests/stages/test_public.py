"""Public weights as base weights: small layouts made on the spot, and what is said of those that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from models.checkpoints import load, save
from models.config import EncoderConfig, TextToImageConfig
from models.encoder import Encoder
from models.svd import StableVideo
from models.text_to_image import TextToImage, word_tokenizer
from models.video import build_video, load_video
from stages.base.config import EncoderTrainingConfig, VideoTrainingConfig
from stages.base.public import card_licence, take_encoder, take_text_to_image, take_video
from stages.corpus.config import TextToImageUse
from stages.corpus.text_to_image import Painter
from stages.errors import InputError
from tests.models.test_svd import TINY

ENCODER = {"image_size": 16, "table_size": 28, "patch": 4, "width": 32, "layers": 2, "heads": 2}
DINOV2: dict[str, Any] = {
    "image_size": 28,
    "patch_size": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 4,
}


def encoder(**changes: Any) -> EncoderTrainingConfig:
    return EncoderTrainingConfig.model_validate({"encoder": ENCODER | changes})


def video(**changes: Any) -> VideoTrainingConfig:
    return VideoTrainingConfig.model_validate({"video": TINY.model_dump() | changes})


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("public") / "svd"
    StableVideo(TINY.model_copy(update={"scaling": 0.5})).save(folder)
    (folder / "config.json").unlink()  # public layouts have none of ours
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a variant")
    return folder


def test_stable_video_becomes_the_base_of_a_preset_of_its_shapes(layout: Path, tmp_path: Path) -> None:
    take_video(layout, tmp_path, video())
    model = load_video(tmp_path)
    assert (model.config.scaling, model.config.frames) == (0.5, TINY.frames)
    torch.manual_seed(0)
    torch.testing.assert_close(model.denoiser.state_dict(), StableVideo(TINY).denoiser.state_dict())
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()


def test_a_model_of_another_machine_is_taken_as_it_is(tmp_path: Path) -> None:
    tiny = VideoTrainingConfig.model_validate({"video": {"width": 32, "layers": 1, "heads": 2}})
    build_video(tiny.video).save(tmp_path / "theirs")
    take_video(tmp_path / "theirs", tmp_path / "ours", tiny)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    other = VideoTrainingConfig.model_validate({"video": {"width": 64, "layers": 1, "heads": 2}})
    with pytest.raises(
        InputError, match=r"width 32 instead of 64; put these values into the preset's base.video.video"
    ):
        take_video(tmp_path / "theirs", tmp_path / "no", other)


def test_video_weights_that_do_not_fit_are_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"unet: add_embedding.linear_1.bias is \(128,\) instead of \(256,\), and \d+ more",
    ):
        take_video(layout, tmp_path / "no", video(widths=(64, 64)))
    with pytest.raises(InputError, match=r"is a StableVideoDiffusionPipeline, the preset's .* is of the family wan"):
        take_video(layout, tmp_path / "no", VideoTrainingConfig.model_validate({}))
    with pytest.raises(InputError, match=r"is no model, .* it takes a StableVideoDiffusionPipeline"):
        take_video(tmp_path, tmp_path / "no", video())
    pickled = Path(shutil.copytree(layout, tmp_path / "pickled"))
    for weights in (pickled / "vae").glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match=r"diffusion_pytorch_model.bin is a pickle"):
        take_video(pickled, tmp_path / "no", video())
    torn = Path(shutil.copytree(layout, tmp_path / "torn"))
    (torn / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        take_video(torn, tmp_path / "no", video())


@pytest.mark.parametrize("registers", [0, 3])
def test_dinov2_gives_the_same_tokens_as_in_transformers(registers: int, tmp_path: Path) -> None:
    torch.manual_seed(registers)
    theirs: Any = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**DINOV2, num_register_tokens=registers))
        if registers
        else Dinov2Model(Dinov2Config(**DINOV2))
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    take_encoder(tmp_path / "theirs", tmp_path / "ours", encoder(registers=registers, normalise="none", image_size=28))
    ours = load(tmp_path / "ours", EncoderConfig, Encoder)
    images = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        tokens = theirs(images).last_hidden_state
    wanted = torch.cat((tokens[:, :1], tokens[:, 1 + registers :]), 1)
    torch.testing.assert_close(ours(images).detach(), wanted, atol=1e-5, rtol=1e-5)
    take_encoder(tmp_path / "ours", tmp_path / "again", encoder(registers=registers, normalise="none", image_size=28))
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "ours/model.safetensors").read_bytes()


def test_encoders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    Dinov2Model(Dinov2Config(**DINOV2)).save_pretrained(tmp_path / "dino")
    with pytest.raises(InputError, match=r"layers 2 instead of 3; put these values into the preset's base.encoder"):
        take_encoder(tmp_path / "dino", tmp_path / "no", encoder(layers=3))
    torch.save({}, tmp_path / "dino" / "pytorch_model.bin")
    (tmp_path / "dino" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle"):
        take_encoder(tmp_path / "dino", tmp_path / "no", encoder())
    (tmp_path / "dino" / "model.safetensors").touch()
    (tmp_path / "dino" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="is bert; an encoder is a DINOv2"):
        take_encoder(tmp_path / "dino", tmp_path / "no", encoder())
    save(Encoder(EncoderConfig.model_validate(ENCODER)), EncoderConfig.model_validate(ENCODER), tmp_path / "own")
    with pytest.raises(InputError, match="width 32 instead of 64"):
        take_encoder(tmp_path / "own", tmp_path / "no", encoder(width=64))
    assert not (tmp_path / "no").exists()


def test_a_text_to_image_pipeline_draws_the_same_from_its_copy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = TextToImageConfig.model_validate(
        {"size": 16, "latent_channels": 4, "autoencoder_width": 16, "widths": [8, 16], "text_width": 16}
    )
    TextToImage(settings, word_tokenizer(["a red chair"], settings.tokens)).save(tmp_path / "theirs")
    take_text_to_image(tmp_path / "theirs", tmp_path / "ours", None)
    use = TextToImageUse.model_validate({"steps": 2})
    (one,), (other,) = (list(Painter(tmp_path / side, use).paint(["a red chair"], [1])) for side in ("theirs", "ours"))
    assert not isinstance(one, str)
    assert not isinstance(other, str)
    assert (one == other).all()
    with pytest.raises(InputError, match=r"model_index.json is missing"):
        take_text_to_image(tmp_path, tmp_path / "no", None)


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: apache-2.0\ntags: [x]", "apache-2.0"),
        ("license: other\nlicense_name: some-community", "some-community"),
        ("tags: [x]", None),
        ("license: [", None),
    ],
)
def test_the_licence_stands_in_the_model_card(head: str, licence: str | None, tmp_path: Path) -> None:
    assert card_licence(tmp_path) is None
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
    assert card_licence(tmp_path) == licence
