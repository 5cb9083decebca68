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
from safetensors.torch import load_file, save_file

from models.camera import Camera
from models.checkpoints import load, load_published, load_weights, parameter_count, save
from models.config import EncoderConfig, LRMConfig
from models.encoder import Encoder
from models.lrm import LRM
from models.published import Kind, config_of, to_published
from models.triplane import (
    EMPTY,
    Triplane,
    borrowed_limits,
    box_limits,
    coarse_depths,
    draw,
    importance_depths,
    march,
    reference_limits,
)

GOLDEN = np.load(Path(__file__).parent / "lrm_golden.npz")
SHAPES = json.loads((Path(__file__).parent / "published_shapes.json").read_text())
"""Published name -> shape, of the four published models."""
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


def golden_model(position_resize: str, dtype: torch.dtype = torch.float64) -> LRM:
    """The model of the golden file: every parameter from a hash of its published name and index."""
    fill = json.loads(str(GOLDEN["parameter_fill_json"]))
    weights = {name: hashed(name, *how) for name, how in fill.items()}
    model = load_published(
        weights,
        "vfusion3d",
        transformer_heads=4,
        encoder_heads=3,
        samples_per_ray=16,
        image_size=56,
        position_resize=position_resize,
    )
    return model.to(dtype)


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


CASES = [
    ("size", "f64", torch.float64, 1e-9),
    ("size", "f64", torch.float32, 2e-5),
    ("size", "f32", torch.float32, 2e-5),
    ("scale", "f32/hf4", torch.float32, 2e-5),
]


def close(ours: torch.Tensor, name: str, near: float) -> None:
    torch.testing.assert_close(ours.double().reshape(GOLDEN[name].shape), golden(name), atol=near, rtol=0)


@pytest.mark.parametrize(("resize", "folder", "dtype", "near"), CASES)
@torch.no_grad()
def test_published_numbers(resize: str, folder: str, dtype: torch.dtype, near: float) -> None:
    lrm = golden_model(resize, dtype)
    image, source, cameras = (golden(f"in/{name}").to(dtype) for name in ("image", "source_camera", "render_cameras"))
    close(lrm.encoder(image), f"{folder}/image_feats", near)
    planes = lrm.planes(image, source)
    close(planes, f"{folder}/planes", near)
    assert torch.equal(planes, lrm.planes(image, Camera.from_published(source)))
    rgb, depth, weight = lrm.render(planes, cameras, 16, reference=True)
    close(rgb, f"{folder}/det/images_rgb", near)
    close(depth, f"{folder}/det/images_depth", near)
    close(weight, f"{folder}/det/images_weight", near)
    ours = lrm.render(planes, Camera.from_published(cameras), 16)
    close(ours.rgb, f"{folder}/det/images_rgb", near)
    close(ours.weight, f"{folder}/det/images_weight", near)
    seen = ours.weight > 0  # the published depth of a ray that meets nothing depends on the other rays of the call
    assert seen.float().mean() > 0.99
    assert (ours.depth - golden(f"{folder}/det/images_depth"))[seen].abs().max() < near


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@torch.no_grad()
def test_published_steps(dtype: torch.dtype, near: float) -> None:
    """Camera embedding, rays, both sets of depths, coarse weights, a crop, points and a grid."""
    lrm = golden_model("size", dtype)
    image, source, cameras, points, jitter, u = (
        golden(f"in/{name}").to(dtype) for name in ("image", "source_camera", "render_cameras", "points", "jitter", "u")
    )
    close(lrm.camera_embedder(source), "f64/camera_embedding", near)
    origins, directions = (part.flatten(0, 1) for part in Camera.from_published(cameras).rays(16))
    close(origins, "f64/ray_origins", near)
    close(directions, "f64/ray_directions", near)
    limits = reference_limits(origins, directions, 1.0)
    close(limits[0], "f64/ray_near", near)
    close(limits[1], "f64/ray_far", near)
    planes = lrm.planes(image, source)
    triplane = Triplane(planes)
    for case, own_jitter, own_u in (
        ("det", draw(origins, 8, None), draw(origins, 8, None, spread=True)),
        ("noise", jitter[..., 0], u.view(2, 256, 8)),
    ):
        depths = coarse_depths(*borrowed_limits(*limits), 8, own_jitter)
        close(depths, f"f64/{case}/depths_coarse", near)
        along = (origins[:, :, None] + depths[..., None] * directions[:, :, None]).flatten(0, 2)
        colour, density = lrm.synthesizer.field(triplane)(along[None])
        inside = (along.abs() <= 1).all(-1)
        density = torch.where(inside, density[0], EMPTY).view(depths.shape)
        weights, _, _ = march((colour[0] * inside[:, None]).view(*depths.shape, 3), density, depths)
        close(weights, f"f64/{case}/coarse_weights", near)
        close(importance_depths(depths, weights, own_u), f"f64/{case}/depths_fine", near)
    for reference in (True, False):
        noisy = lrm.render(planes, cameras, 16, reference=reference, jitter=jitter, u=u)
        close(noisy.rgb, "f64/noise/images_rgb", near)
        close(noisy.weight, "f64/noise/images_weight", near)
        crop = lrm.render(planes, cameras, 16, (3, 5, 8), reference=reference)
        close(crop.rgb, "f64/crop/images_rgb", near)
        close(crop.weight, "f64/crop/images_weight", near)
        if reference:
            close(noisy.depth, "f64/noise/images_depth", near)
            close(crop.depth, "f64/crop/images_depth", near)
    close(triplane.look_up(points).unflatten(2, (3, -1)).transpose(1, 2), "f64/points/features", near)
    density, rgb = lrm.query(planes, points)
    assert density.shape == (1, 64, 1)
    close(rgb, "f64/points/rgb", near)
    close(density, "f64/points/sigma", near)
    line = torch.linspace(-1, 1, 9, dtype=dtype)
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(1, -1, 3)
    close(lrm.query(planes, grid)[0], "f64/grid9/sigma", near)


def test_published_size() -> None:
    assert parameter_count(lambda: LRM(LRMConfig())) == 452_135_700


@pytest.mark.parametrize("kind", SHAPES)
def test_published_models_match_parameter_for_parameter(kind: Kind) -> None:
    """On the meta device, both ways: our model has the published names and shapes, and those load."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in SHAPES[kind].items()}
    with torch.device("meta"):
        model = LRM.from_config(config_of(kind))
    own = to_published(model.state_dict(), kind)
    assert {name: list(tensor.shape) for name, tensor in own.items()} == SHAPES[kind]
    assert load_published(weights, kind).config == model.config
    assert sum(p.numel() for p in model.parameters()) == sum(int(np.prod(shape)) for shape in SHAPES[kind].values())


def test_vfusion3d_with_the_names_of_transformers_5() -> None:
    with torch.device("meta"):
        model = LRM(LRMConfig())
    old, new = (to_published(model.state_dict(), "vfusion3d", transformers=version) for version in (4, 5))
    assert "encoder.model.encoder.layer.3.attention.attention.query.weight" in old
    assert "encoder.model.encoder.layer.3.attention.q_proj.weight" in new
    assert {name: list(t.shape) for name, t in old.items()} == SHAPES["vfusion3d"]
    for weights in (old, new):
        assert load_published(weights).config == LRMConfig()


@torch.no_grad()
def test_an_openlrm_checkpoint_is_the_model_it_was_saved_from() -> None:
    """Names, the order of query, key and value, registers, and equal widths of image and model."""
    torch.manual_seed(0)
    encoder = {"image_size": 16, "table_size": 16, "patch": 4, "width": 12, "layers": 1, "heads": 2, "registers": 4}
    config = TINY.model_copy(
        update={"encoder": EncoderConfig.model_validate(encoder | {"normalise": "none", "position_resize": "scale"})}
    )
    lrm = LRM(config).eval()
    weights = to_published(lrm.state_dict(), "openlrm-small")
    assert "encoder.model.blocks.0.attn.qkv.weight" in weights
    assert "transformer.layers.0.cross_attn.in_proj_weight" in weights
    again = load_published(
        weights,
        "openlrm-small",
        transformer_heads=2,
        encoder_heads=2,
        samples=8,
        importance_samples=0,
        image_size=16,
    )
    assert again.config == config
    image, camera = torch.rand(1, 3, 16, 16), Camera.orbit(1, 20.0)
    assert torch.equal(again.planes(image, camera), lrm.planes(image, camera))


@torch.no_grad()
def test_registers_take_part_and_are_dropped() -> None:
    torch.manual_seed(0)
    config = TINY.encoder.model_copy(update={"registers": 4, "normalise": "none", "layers": 2})
    encoder = Encoder(config).eval()
    torch.nn.init.normal_(encoder.model.embeddings.register_tokens)
    image = torch.rand(2, 3, 16, 16)
    whole = encoder.model(image).last_hidden_state  # class token, registers, patches
    torch.testing.assert_close(encoder(image), torch.cat((whole[:, :1], whole[:, 5:]), 1))


def test_checkpoints_that_are_none_are_told(tmp_path: Path) -> None:
    fill = json.loads(str(GOLDEN["parameter_fill_json"]))
    weights = {name: hashed(name, *how) for name, how in fill.items()}
    heads = {"transformer_heads": 4, "encoder_heads": 3}
    missing = {name: tensor for name, tensor in weights.items() if name != "transformer.norm.bias"}
    with pytest.raises(ValueError, match=r"transformer\.norm\.bias is missing, \(64,\) belongs there"):
        load_published(missing, **heads)
    odd = weights | {"transformer.layers.1.mlp.0.bias": torch.zeros(7)}
    with pytest.raises(ValueError, match=r"mlp\.0\.bias has shape \(7,\), \(256,\) belongs there"):
        load_published(odd, **heads)
    with pytest.raises(ValueError, match=r"ema\.step \(1,\) is unknown"):
        load_published(weights | {"ema.step": torch.zeros(1)}, **heads)
    with pytest.raises(ValueError, match=r"cls_token is missing, \(1, 1, 768\) belongs there.*more"):
        load_published({"conv1.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="no published model 'triposr'"):
        load_published(weights, "triposr")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match=r"torn\.safetensors cannot be read as safetensors"):
        load_published(tmp_path / "torn.safetensors")
    torch.save(weights, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match=r"pickled\.pt is a pickle"):
        load_published(tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match="is no file"):
        load_published(tmp_path / "absent.safetensors")
    save_file(weights, tmp_path / "model.safetensors")
    assert load_published(tmp_path, **heads).config.width == 64


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
    planes = lrm.triplane(image, camera)
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
    view = lrm.triplane(image, camera).view
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
    view = lrm.triplane(torch.rand(1, 3, 16, 16), camera).view
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
