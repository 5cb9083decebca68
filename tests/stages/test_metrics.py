"""Metrics beside their references on random input, and the right way under known changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from torch.nn import functional as F
from torchmetrics.classification import BinaryJaccardIndex
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.evaluation.config import JudgesConfig
from stages.evaluation.geometry import Surface, compared, normal_consistency, surface
from stages.evaluation.metrics import (
    METRICS,
    Judges,
    Views,
    likeness_figures,
    load_judges,
    measured,
    surface_figures,
    view_figures,
)
from stages.hashing import file_md5
from stages.quality.features import ImageText


def far(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().flatten(1).mean(1)


def means(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3))


JUDGES = Judges("feature_distance", far, means, "no weights: none", "no weights: none")


def random_views(seed: int, views: int = 3, side: int = 16) -> Views:
    generator = torch.Generator().manual_seed(seed)
    return Views(
        torch.rand(views, 3, side, side, generator=generator), torch.rand(views, side, side, generator=generator)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(11, 40))
def test_views_agree_with_torchmetrics(seed: int, views: int, side: int) -> None:
    made, truth = random_views(seed, views, side), random_views(seed + 1, views, side)
    assert made.alpha is not None
    assert truth.alpha is not None
    found: dict[str, Any] = view_figures(made, truth, JUDGES)
    assert found["psnr"] == pytest.approx(float(PeakSignalNoiseRatio(data_range=1.0)(made.rgb, truth.rgb)), abs=1e-5)
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)(made.rgb, truth.rgb)
    assert found["ssim"] == pytest.approx(float(ssim), abs=1e-5)
    iou = BinaryJaccardIndex()((made.alpha > 0.5).int(), (truth.alpha > 0.5).int())
    assert found["iou"] == pytest.approx(float(iou), abs=1e-5)
    either = ((made.alpha > 0.5) | (truth.alpha > 0.5)).numpy()
    error = (made.rgb - truth.rgb).numpy().transpose(0, 2, 3, 1)[either]
    assert found["foreground_psnr"] == pytest.approx(-10 * np.log10((error**2).mean()), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 80))
def test_surfaces_agree_with_all_pairs(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)

    def points(count: int) -> Surface:
        normals = rng.normal(size=(count, 3))
        return Surface(rng.normal(size=(count, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))

    made, truth = points(n), points(m)
    pairs = np.linalg.norm(made.points[:, None] - truth.points[None], axis=-1)
    cosines = np.abs(made.normals @ truth.normals.T)
    found = compared(made, truth, 0.5)
    assert found["chamfer"] == pytest.approx((pairs.min(1).mean() + pairs.min(0).mean()) / 2, abs=1e-5)
    there, back = cosines[np.arange(n), pairs.argmin(1)].mean(), cosines[pairs.argmin(0), np.arange(m)].mean()
    assert found["normal_consistency"] == pytest.approx((there + back) / 2, abs=1e-5)
    precision, recall = (pairs.min(1) < 0.5).mean(), (pairs.min(0) < 0.5).mean()
    assert found["f_score"] == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12), abs=1e-5)
    there = KDTree(truth.points).query(made.points)[0]
    np.testing.assert_allclose(pairs.min(1), there, atol=1e-12)


def test_points_lie_on_the_mesh_and_normals_are_those_of_its_faces() -> None:
    found = surface(trimesh.creation.box((0.6, 0.8, 1.0)), 500, 0)
    sides = found.points / np.array([0.3, 0.4, 0.5])
    np.testing.assert_allclose(np.abs(sides).max(1), 1, atol=1e-5)
    np.testing.assert_allclose((sides * found.normals).sum(1), 1, atol=1e-5)


def test_a_worse_picture_is_worse_in_every_metric() -> None:
    alpha = torch.zeros(4, 24, 24)
    alpha[:, 6:18, 6:18] = 1
    truth = Views(random_views(0, 4, 24).rgb, alpha)
    noise = torch.randn(truth.rgb.shape, generator=torch.Generator().manual_seed(1))

    def spoiled(much: float) -> dict[str, Any]:
        rgb = (truth.rgb + much * noise).clamp(0, 1)
        return view_figures(Views(rgb, alpha.roll(int(10 * much), -1)), truth, JUDGES)

    steps = [spoiled(much) for much in (0.0, 0.1, 0.3)]
    for name in ("psnr", "foreground_psnr", "ssim", "feature_distance", "iou"):
        first, second, third = (step[name] for step in steps)
        best, middle, worst = (first, second, third) if METRICS[name].high_is_good else (-first, -second, -third)
        assert best > middle > worst, name


def test_a_worse_surface_is_worse_in_every_metric() -> None:
    truth = surface(trimesh.creation.box((0.6, 0.8, 1.0)), 4000, 0)
    same = surface(trimesh.creation.box((0.6, 0.8, 1.0)), 4000, 1)
    larger = surface(trimesh.creation.box((0.66, 0.86, 1.06)), 4000, 1)
    ball = surface(trimesh.creation.icosphere(3, 0.5), 4000, 1)
    rows = [compared(made, truth) for made in (same, larger, ball)]
    assert rows[0]["chamfer"] < rows[1]["chamfer"] < rows[2]["chamfer"]
    assert rows[0]["f_score"] > rows[1]["f_score"] > rows[2]["f_score"]
    assert rows[0]["normal_consistency"] > 0.95 > rows[2]["normal_consistency"]
    turned = Surface(same.points, -same.normals)
    assert normal_consistency(turned, truth) == pytest.approx(normal_consistency(same, truth))


def test_similarity_is_the_mean_cosine_over_views() -> None:
    images, picture = random_views(3).rgb, random_views(4).rgb[0]
    captions = {"a chair": torch.tensor([[1.0, 0.0, 0.0]])}
    clip = ImageText(means, lambda texts: captions[texts[0]])
    found: dict[str, Any] = likeness_figures(
        images, picture, "a chair", Judges("lpips", far, means, clip, means, side=64)
    )
    wanted = float(F.cosine_similarity(means(images), means(picture[None])).mean())
    for name in ("clip_image", "dino", "encoder_similarity"):
        assert found[name] == pytest.approx(wanted, abs=1e-6)
    assert found["clip_text"] == pytest.approx(float(F.cosine_similarity(means(images), captions["a chair"]).mean()))
    own: dict[str, Any] = likeness_figures(
        picture.expand(3, -1, -1, -1), picture, "", Judges("lpips", far, means, clip, means)
    )
    assert own["clip_image"] == pytest.approx(1)
    assert own["clip_text"] == "no caption"


def test_what_cannot_be_measured_says_why() -> None:
    truth = random_views(0)
    flat = view_figures(Views(truth.rgb, None), truth, JUDGES)
    assert flat["iou"] == flat["foreground_psnr"] == "the views have no alpha"
    assert flat["psnr"] == 120
    small = view_figures(random_views(0, 2, 8), random_views(1, 2, 8), JUDGES)
    assert small["ssim"] == "views of 8 px are smaller than SSIM's window of 11"
    empty = Views(truth.rgb, torch.zeros(3, 16, 16))
    assert "neither" in str(view_figures(empty, empty, JUDGES)["iou"])
    nan = Judges("lpips", lambda a, b: far(a, b) * float("nan"), means, "x", "x")
    assert view_figures(truth, truth, nan)["lpips"] == "not finite: nan"
    points = Surface(np.zeros((1, 3)), np.ones((1, 3)))
    assert surface_figures("no surface", points) == dict.fromkeys(
        ("chamfer", "f_score", "normal_consistency"), "no surface"
    )
    assert set(surface_figures(points, "no true surface").values()) == {"no true surface"}


def test_judges_without_weights_are_reasons(tmp_path: Path) -> None:
    config = EncoderConfig.model_validate(
        {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2}
    )
    save(Encoder(config), config, tmp_path)
    judges = load_judges(JudgesConfig.model_validate({}), tmp_path)
    assert judges.distance_name == "feature_distance"
    assert judges.clip == "no weights: evaluation.judges.clip names none"
    gone = {"at": str(tmp_path / "gone"), "md5": "0" * 32}
    judges = load_judges(JudgesConfig.model_validate({"dino": gone, "clip": gone, "lpips": gone}), tmp_path)
    assert judges.distance_name == "lpips"
    assert str(view_figures(random_views(0), random_views(1), judges)["lpips"]).startswith("no weights: ")
    assert str(judges.dino).startswith("no weights: ")
    assert "gone" in str(judges.dino)
    assert set(judges.weights) == {"encoder"}
    figures = likeness_figures(random_views(0).rgb, random_views(1).rgb[0], "a chair", judges)
    assert figures["dino"] == judges.dino
    assert isinstance(figures["encoder_similarity"], float)


def test_named_weights_judge(encoder: Path, dino: Path, clip: tuple[Path, str]) -> None:
    weights, name = clip
    named = {
        "dino": {"at": str(dino), "md5": file_md5(dino / "model.safetensors"), "size": 56},
        "clip": {"at": str(weights), "md5": file_md5(weights), "architecture": name},
    }
    judges = load_judges(JudgesConfig.model_validate(named), encoder)
    assert set(judges.weights) == {"encoder", "dino", "clip"}
    picture = random_views(1, side=40).rgb[0]
    found: dict[str, Any] = likeness_figures(picture.expand(2, -1, -1, -1), picture, "a chair", judges)
    assert found["dino"] == pytest.approx(1, abs=1e-5)
    assert found["clip_image"] == pytest.approx(1, abs=1e-5)
    model: Any = open_clip.create_model(name, pretrained=str(weights)).eval()
    assert not isinstance(judges.clip, str)
    with torch.no_grad():
        text = model.encode_text(open_clip.get_tokenizer(name)(["a chair"]), normalize=True)
    wanted = float(F.cosine_similarity(judges.clip.images(picture[None]), text))
    assert found["clip_text"] == pytest.approx(wanted, abs=1e-5)


def test_time_and_memory_are_those_of_the_block() -> None:
    with measured(torch.device("cpu")) as cost:
        held = np.ones(2**25)  # 256 MiB
        sum(range(10**6))
        took: Any = cost()
    del held
    with measured(torch.device("cpu")) as cost:
        nothing: Any = cost()
    assert took.seconds > nothing.seconds
    if not isinstance(took.memory, str):
        assert took.memory - nothing.memory > 200
