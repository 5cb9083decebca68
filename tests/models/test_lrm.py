"""The LRM against numbers of the published classes, and the geometry of its renderer."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from models.camera import Camera
from models.checkpoints import from_published, load, load_weights, parameter_count, save
from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from models.triplane import Triplane, box_limits, coarse_depths, importance_depths, march

GOLDEN = np.load(Path(__file__).parent / "lrm_golden.npz")
GOLDEN_ENCODER = {"image_size": 56, "table_size": 98, "patch": 14, "width": 48, "layers": 2, "heads": 3}
TINY = LRMConfig.model_validate(
    {
        "encoder": {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2},
        "camera_width": 8,
        "width": 12,
        "layers": 1,
        "heads": 2,
        "plane_tokens": 4,
        "channels": 4,
        "decoder_width": 8,
        "decoder_layers": 2,
        "samples": 8,
        "importance_samples": 0,
    }
)
DEPARTED = TINY.model_copy(update={"align": True, "view_channels": 4, "view_depths": 8, "depth_channels": 2})


def golden_model(position_resize: str) -> LRM:
    """The model of the golden file: every parameter from a hash of its published name and index."""
    config = LRMConfig.model_validate(
        {
            "encoder": GOLDEN_ENCODER | {"position_resize": position_resize},
            "camera_width": 32,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "plane_tokens": 8,
            "channels": 8,
            "samples": 8,
            "importance_samples": 8,
        }
    )
    fill = json.loads(str(GOLDEN["parameter_fill_json"]))
    model = LRM(config)
    load_weights(model, {from_published(name): hashed(name, *how) for name, how in fill.items()}, "golden")
    return model.double().eval()


def hashed(name: str, kind: str, scale: float, shape: list[int]) -> torch.Tensor:
    mask = 0xFFFFFFFF
    x = (np.arange(int(np.prod(shape)), dtype=np.uint64) * 2654435761 + zlib.crc32(name.encode())) & mask
    x ^= x >> 16
    x = x * 0x7FEB352D & mask
    x ^= x >> 15
    x = x * 0x846CA68B & mask
    x ^= x >> 16
    values = ((x + 0.5) / 2**31 - 1) * scale + (kind == "one_plus")
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name]).double()


@pytest.mark.parametrize(("resize", "folder", "near"), [("size", "f64", 1e-9), ("scale", "f32/hf4", 2e-5)])
@torch.no_grad()
def test_published_numbers(resize: str, folder: str, near: float) -> None:
    lrm = golden_model(resize)
    tokens = lrm.encoder(golden("in/image"))
    torch.testing.assert_close(tokens, golden(f"{folder}/image_feats"), atol=near, rtol=0)
    planes = lrm.planes(golden("in/image"), Camera.from_published(golden("in/source_camera")))
    torch.testing.assert_close(planes.planes, golden(f"{folder}/planes"), atol=near, rtol=0)
    views = lrm.render(planes, Camera.from_published(golden("in/render_cameras")), 16)
    torch.testing.assert_close(views.rgb, golden(f"{folder}/det/images_rgb"), atol=near, rtol=0)
    torch.testing.assert_close(views.weight, golden(f"{folder}/det/images_weight"), atol=near, rtol=0)
    seen = views.weight > 0  # the published depth of a ray that meets nothing depends on the other rays of the call
    assert seen.float().mean() > 0.99
    torch.testing.assert_close(views.depth[seen], golden(f"{folder}/det/images_depth")[seen], atol=near, rtol=0)


@torch.no_grad()
def test_published_crop_and_points() -> None:
    lrm = golden_model("size")
    planes = lrm.planes(golden("in/image"), Camera.from_published(golden("in/source_camera")))
    crop = lrm.render(planes, Camera.from_published(golden("in/render_cameras")), 16, (3, 5, 8))
    torch.testing.assert_close(crop.rgb, golden("f64/crop/images_rgb"), atol=1e-9, rtol=0)
    rgb, density = lrm.query(planes, golden("in/points"))
    torch.testing.assert_close(rgb, golden("f64/points/rgb"), atol=1e-9, rtol=0)
    torch.testing.assert_close(density[..., None], golden("f64/points/sigma"), atol=1e-9, rtol=0)


def test_published_size() -> None:
    assert parameter_count(lambda: LRM(LRMConfig())) == 452_135_700


def test_departures_are_extra_parameters_only() -> None:
    plain, departed = LRM(TINY).state_dict(), LRM(DEPARTED).state_dict()
    assert plain.keys() < departed.keys()
    assert {name.split(".")[0] for name in departed.keys() - plain.keys()} == {"align", "view"}


unit = st.floats(-1, 1, width=32)
vector = st.tuples(unit, unit, unit)


@settings(deadline=None, max_examples=50)
@given(vector, vector, st.floats(0.3, 1.0))
def test_box_limits_bound_the_inside(origin, direction, half) -> None:
    o = 3 * torch.tensor(origin, dtype=torch.float64)
    d = torch.tensor(direction, dtype=torch.float64)
    if d.norm() < 1e-3:
        return
    d = d / d.norm()
    near, far = (value.item() for value in box_limits(o[None], d[None], half))
    assert 0 <= near <= far
    t = torch.linspace(0, 8, 401, dtype=torch.float64)
    inside = ((o + t[:, None] * d).abs() < half - 1e-6).all(-1)
    assert not (inside & ((t < near) | (t > far))).any()
    outside = ((o + t[:, None] * d).abs() > half + 1e-6).any(-1)
    assert not (outside & (t > near) & (t < far)).any()


def test_axis_parallel_rays_and_misses() -> None:
    origins = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.5, 0.0]])
    directions = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    near, far = box_limits(origins, directions, 1.0)
    assert near.tolist() == [1, 0, 0, 0]
    assert far.tolist() == [3, 0, 1, 0]


@given(st.integers(4, 12), st.integers(1, 12), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_importance_depths_stay_between_the_samples(n: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    depths = coarse_depths(torch.ones(3, 5), 2 * torch.ones(3, 5), n, torch.rand(3, 5, n, generator=generator))
    finer = importance_depths(
        depths, torch.rand(3, 5, n - 1, generator=generator), torch.rand(3, 5, m, generator=generator)
    )
    assert (finer >= depths[..., :1]).all()
    assert (finer <= depths[..., -1:]).all()


def test_weights_sum_to_what_absorbs() -> None:
    generator = torch.Generator().manual_seed(0)
    density = 5 * torch.randn(7, 16, generator=generator)
    depths = torch.rand(7, 16, generator=generator).sort(-1).values
    weights, _, _ = march(torch.zeros(7, 16, 3), density, depths)
    assert (weights >= 0).all()
    optical = torch.nn.functional.softplus((density[:, 1:] + density[:, :-1]) / 2 - 1) * depths.diff(dim=-1)
    torch.testing.assert_close(weights.sum(-1), 1 - torch.exp(-optical.sum(-1)))


@pytest.mark.parametrize("config", [TINY, DEPARTED])
@torch.no_grad()
def test_rendering_is_deterministic_and_independent_of_chunks(
    config: LRMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    lrm = LRM(config).eval()
    image, camera = torch.rand(2, 3, 16, 16), Camera.orbit(2, 20.0)
    planes = lrm.planes(image, camera)
    ring = Camera.orbit(3, 10.0)
    cameras = Camera(ring.pose.expand(2, -1, -1, -1), ring.intrinsics.expand(2, -1, -1))
    whole = lrm.render(planes, cameras, 12)
    assert whole.rgb.shape == (2, 3, 3, 12, 12)
    assert whole.depth.shape == whole.weight.shape == (2, 3, 1, 12, 12)
    monkeypatch.setattr("models.lrm.CHUNK", 64)
    parts = lrm.render(planes, cameras, 12)
    torch.testing.assert_close(whole.rgb, parts.rgb)
    torch.testing.assert_close(whole.depth, parts.depth)
    crop = lrm.render(planes, cameras, 12, (2, 4, 6))
    torch.testing.assert_close(crop.rgb, whole.rgb[..., 4:10, 2:8])


@torch.no_grad()
def test_no_samples_behind_the_camera() -> None:
    lrm = LRM(TINY)
    planes = Triplane(torch.zeros(1, 3, 4, 8, 8))
    rendered = lrm.rays(planes, torch.zeros(1, 5, 3), torch.nn.functional.normalize(torch.randn(1, 5, 3), dim=-1))
    assert (rendered.depth >= 0).all()


@torch.no_grad()
def test_a_view_reads_the_pixel_that_sees_a_point() -> None:
    """A point reads the colour of the input pixel on whose ray it lies, at any depth."""
    lrm = LRM(DEPARTED)
    image, camera = torch.rand(1, 3, 16, 16), Camera.orbit(1, 25.0)
    view = lrm.planes(image, camera).view
    assert view is not None
    origins, directions = camera.rays(16)
    for depth in (1.0, 1.6):
        _, colours = view.look_up(origins + depth * directions)
        torch.testing.assert_close(colours[0, :, 0], image[0].flatten(1).T, atol=1e-4, rtol=0)


@torch.no_grad()
def test_points_read_features_of_their_own_depth() -> None:
    """Features that hold their depth's number are read back as the depth of points along a pixel's ray."""
    lrm = LRM(DEPARTED)
    camera = Camera.orbit(1, 25.0)
    view = lrm.planes(torch.rand(1, 3, 16, 16), camera).view
    assert view is not None
    assert view.deep is not None
    layers = (torch.arange(8) + 0.5) / 8 * 2 - 1
    view = replace(view, deep=(layers * view.box)[None, None, :, None, None].expand(1, 2, 8, 16, 16))
    axis = -camera.pose[0, :3, 2]
    for depth in (-0.5, 0.0, 0.7):
        point = camera.pose[0, :3, 3] + (1.5 + depth) * axis
        features, _ = view.look_up(point[None, None])
        torch.testing.assert_close(features[0, 0, -2:], torch.full((2,), depth), atol=1e-5, rtol=0)


@torch.no_grad()
def test_aligned_tokens_lie_where_the_camera_sees_them() -> None:
    """A bright patch at the left of an image from +x lands on the -y side of the planes that have a y axis."""
    lrm = LRM(DEPARTED)
    lrm.align = torch.nn.Linear(12, 12, bias=False)
    lrm.align.weight.copy_(torch.eye(12))
    patches = torch.zeros(1, 4, 4, 12)
    patches[:, :, 0] = 1  # the left column: from +x, right is +y
    planes = lrm._aligned(patches.flatten(1, 2), Camera.orbit(1, 0.0)).unflatten(1, (3, 4, 4))[0, ..., 0]
    xy, _, zy = planes
    assert xy[0].sum() > 10 * xy[3].sum()
    assert zy[0].sum() > 10 * zy[3].sum()


def test_a_model_is_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lrm = LRM(DEPARTED)
    save(lrm, DEPARTED, tmp_path)
    again = load(tmp_path, LRMConfig, LRM)
    assert again.config == DEPARTED
    assert all(torch.equal(a, b) for a, b in zip(lrm.parameters(), again.parameters(), strict=True))
    before = (tmp_path / "model.safetensors").read_bytes()
    save(again, again.config, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no model"):
        load(tmp_path, LRMConfig, LRM)
    save(LRM(TINY), DEPARTED, tmp_path)
    with pytest.raises(ValueError, match=r"missing: align\.bias"):
        load(tmp_path, LRMConfig, LRM)
    weights = load_file(tmp_path / "model.safetensors")
    weights["transformer.pos_embed"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"shape: transformer\.pos_embed \(1,\) instead of \(1, 48, 12\)"):
        load_weights(LRM(TINY), weights, "here")


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="no multiple of heads"):
        EncoderConfig.model_validate({"width": 10, "heads": 3})
