"""Encoders and saliency networks that the user has on disk: tiny ones of the same classes, made here."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.encoder import IMAGENET_MEAN, IMAGENET_STD
from stages.errors import InputError
from stages.quality.config import ClipConfig, DinoConfig, FeaturesConfig, QualityConfig, SaliencyConfig
from stages.quality.features import load_embedder, pooled
from stages.quality.labels import STATISTICS
from stages.quality.observe import observe
from stages.quality.saliency import salient
from stages.shards import Sample


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def sample(caption: str = "a chair") -> Sample:
    views = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 4), dtype=np.uint8)
    return Sample("x", views, {"caption": caption, "cameras": [[0.0] * 16] * 4})


def test_a_published_dinov2_sees_as_transformers_does(dino: Path, encoder: Path) -> None:
    from transformers import Dinov2Model

    weights = dino / "model.safetensors"
    config = FeaturesConfig(dino=DinoConfig(at=str(dino), md5=md5(weights), size=56))
    images = torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    vectors = load_embedder(config, encoder).dino(images)
    normal = (images - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    peer: Any = Dinov2Model.from_pretrained(dino)
    with torch.no_grad():
        tokens = peer(normal).last_hidden_state
    expected = torch.cat((tokens[:, 0], tokens[:, 1:].mean(1), tokens[:, 1:].std(1)), 1)
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=1e-4)


def test_the_hub_cache_is_read_and_nothing_is_downloaded(
    dino: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "models--me--dino"
    snapshot = home / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    for file in dino.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = DinoConfig(at="me/dino", md5=md5(dino / "model.safetensors"), size=56)
    assert load_embedder(FeaturesConfig(dino=config), encoder).dino(torch.rand(1, 3, 8, 8)).shape == (1, 96)
    with pytest.raises(InputError, match=r"me/other is neither a path .*hf download me/other"):
        load_embedder(FeaturesConfig(dino=config.model_copy(update={"at": "me/other"})), encoder)


def test_clip_adds_embeddings_and_the_agreement_with_the_caption(clip: tuple[Path, str], encoder: Path) -> None:
    import open_clip

    weights, name = clip
    features = FeaturesConfig(clip=ClipConfig(at=str(weights.parent), md5=md5(weights), architecture=name), batch=2)
    config = QualityConfig(features=features)
    embedder = load_embedder(features, encoder)
    (seen,) = observe(embedder, [sample()], config)
    (plain,) = observe(load_embedder(FeaturesConfig(), encoder), [sample()], QualityConfig())
    assert len(seen.embedding) == len(plain.embedding) + 2 * 16
    np.testing.assert_array_equal(seen.views, plain.views)  # the elevation estimator is told the same
    assert set(seen.statistics) - set(plain.statistics) == {"prompt_mean", "prompt_least"}
    assert set(STATISTICS) == set(seen.statistics)

    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(weights))
    from stages.shards import composite

    pictures = [
        Image.fromarray((v.transpose(1, 2, 0) * 255).round().astype(np.uint8)) for v in composite(sample().views)
    ]
    with torch.no_grad():
        images: Any = model.eval().encode_image(torch.stack([preprocess(p) for p in pictures]), normalize=True)
        text: Any = model.encode_text(open_clip.get_tokenizer(name)(["a chair"]), normalize=True)
    assert seen.statistics["prompt_mean"] == pytest.approx(float((images @ text.T).mean()), abs=2e-3)
    np.testing.assert_allclose(seen.embedding[-32:], pooled(images.numpy()), atol=2e-3)


def test_weights_are_refused_that_are_missing_or_others(clip: tuple[Path, str], encoder: Path, tmp_path: Path) -> None:
    weights, name = clip
    for at, told in ((str(weights), "has md5"), (str(tmp_path), "is missing"), ("no where", "neither a path")):
        with pytest.raises(InputError, match=told):
            load_embedder(FeaturesConfig(clip=ClipConfig(at=at, md5="0" * 32, architecture=name)), encoder)
    pickled = tmp_path / "clip.pt"
    pickled.write_bytes(b"pickle")
    with pytest.raises(InputError, match="pickles are not read"):
        load_embedder(FeaturesConfig(clip=ClipConfig(at=str(pickled), md5=md5(pickled), architecture=name)), encoder)
    broken = tmp_path / "model.safetensors"
    broken.write_bytes(b"nothing")
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(InputError, match="holds no DINOv2"):
        load_embedder(FeaturesConfig(dino=DinoConfig(at=str(tmp_path), md5=md5(broken))), encoder)


def darkness(path: Path, *, size: int) -> SaliencyConfig:
    """A network in ONNX, of the inputs and outputs of rembg's: salient is what is dark."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
            node("Neg", ["mean"], ["dark"]),
            node("Sigmoid", ["dark"], ["saliency"]),
        ],
        "darkness",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, size, size])],
        [value("saliency", onnx.TensorProto.FLOAT, [1, 1, size, size])],
        [onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return SaliencyConfig(at=str(path), md5=md5(path), size=size)


def test_a_saliency_network_finds_objects_on_any_background(tmp_path: Path, encoder: Path) -> None:
    saliency = darkness(tmp_path / "u2net.onnx", size=64)
    images = np.full((2, 3, 32, 32), 0.8, dtype=np.float32)  # grey: what looks for white sees nothing here
    images[:, :, 8:24, 8:20] = 0.1
    mask = salient(images, saliency)
    truth = images[:, 0] < 0.5
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
    assert not salient(np.full_like(images, 1.0), saliency).any(), "nothing stands out of an even picture"
    config = QualityConfig(features=FeaturesConfig(saliency=saliency))
    rgba = np.concatenate((images.transpose(0, 2, 3, 1) * 255, np.full((2, 32, 32, 1), 255)), -1).astype(np.uint8)
    clip = Sample("grey", rgba, {"cameras": [[0.0] * 16] * 2})
    (seen,) = observe(load_embedder(config.features, encoder), [clip], config)
    np.testing.assert_array_equal(seen.mask, mask)


def test_a_broken_saliency_network_is_told(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "u2net.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"u2net.onnx is no ONNX network"):
        salient(np.ones((1, 3, 8, 8), dtype=np.float32), SaliencyConfig(at=str(path), md5=md5(path)))
