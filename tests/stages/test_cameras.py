"""Rigs stand where the papers say, and a shard whose cameras are wrong is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.camera import Camera
from stages.rendering.axes import draw_axes
from stages.rendering.cameras import draw_cameras, elevations
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import flatten
from stages.rendering.rasterise import render
from stages.rendering.validate import validate
from stages.shards import Sample

SEEDS = st.integers(0, 2**31)


def config(**values: object) -> RenderingConfig:
    return RenderingConfig.model_validate({"size": 32, "supersampling": 2, **values})


def positions(cameras: Camera) -> np.ndarray:
    return cameras.pose[:, :3, 3].double().numpy()


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_an_orbit_is_the_papers(seed: int) -> None:
    cameras, elevation = draw_cameras(config(), np.random.default_rng(seed))
    assert elevation is not None
    assert 0 <= elevation <= 45
    np.testing.assert_allclose(elevations(cameras), elevation, atol=1e-3)
    x, y, _ = positions(cameras).T
    turn = np.degrees(np.unwrap(np.arctan2(y, x)))
    np.testing.assert_allclose(turn, 22.5 * np.arange(16), atol=1e-3)


def test_flex3ds_views_stand_one_above_the_other() -> None:
    cameras, elevation = draw_cameras(config(rig="elevations"), np.random.default_rng(0))
    assert elevation is None
    np.testing.assert_allclose(elevations(cameras), (-18, 6, 18, 30), atol=1e-4)
    np.testing.assert_allclose(positions(cameras)[:, 1], 0, atol=1e-6)
    # the view at 6 degrees is the first of the orbit at 6 degrees
    torch.testing.assert_close(cameras.pose[1], Camera.orbit(16, 6.0).pose[0])


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_sphere_is_openlrms(seed: int) -> None:
    cameras, _ = draw_cameras(config(rig="sphere", views=32), np.random.default_rng(seed))
    found = positions(cameras)
    distance = np.linalg.norm(found, axis=1)
    assert len(found) == 32
    assert ((distance >= 1.9 - 1e-4) & (distance <= 2.6 + 1e-4)).all()
    assert ((found[1:, 2] > -0.75 - 1e-4) & (found[1:, 2] < 1.6 + 1e-4)).all()
    np.testing.assert_allclose(found[0, 1:], 0, atol=1e-6)


def test_free_cameras_stand_where_they_are_put() -> None:
    cameras, _ = draw_cameras(config(rig="free", free=[[90, 0, 2], [0, 30, 3]]), np.random.default_rng(0))
    expected = [[0, 2, 0], [3 * np.cos(np.pi / 6), 0, 1.5]]
    np.testing.assert_allclose(positions(cameras), expected, atol=1e-6)
    seen = cameras.project(torch.zeros(1, 3))[:, 0]
    np.testing.assert_allclose(seen.numpy(), [[0.5, 0.5, 2], [0.5, 0.5, 3]], atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rig": "free"}, "needs cameras in `free`"),
        ({"elevation": [0, 90]}, "up has no direction"),
        ({"rig": "free", "free": [[0, 0, 0.5]]}, "within the object"),
        ({"heights": [2.0, 3.0]}, "leave no place"),
    ],
)
def test_cameras_that_cannot_stand_anywhere_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**values)


def rendered(**values: object) -> Sample:
    """A hook: no symmetry that could hide a wrong camera."""
    parts = [
        trimesh.creation.box((0.2, 0.2, 1.0)),
        trimesh.creation.box((0.9, 0.2, 0.2), trimesh.transformations.translation_matrix((0.45, 0, 0.4))),
        trimesh.creation.box((0.2, 0.6, 0.2), trimesh.transformations.translation_matrix((0, 0.3, -0.4))),
    ]
    chosen = config(**values)
    mesh = flatten(trimesh.Scene(parts), chosen)
    cameras, elevation = draw_cameras(chosen, np.random.default_rng(3))
    meta = {"cameras": cameras.numbers().tolist(), "elevation": elevation}
    return Sample("hook", render(mesh, cameras, chosen).rgba, meta)


def with_cameras(sample: Sample, change: Callable[[Camera], Camera]) -> Sample:
    cameras = change(sample.cameras)
    return replace(sample, meta={"cameras": cameras.numbers().tolist(), "elevation": None})


def turned(cameras: Camera) -> Camera:
    """OpenLRM's world, whose first camera stands at -y: right for all views or for none."""
    quarter = torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return Camera(quarter @ cameras.pose, cameras.intrinsics)


@pytest.mark.parametrize("rig", [{}, {"rig": "sphere", "size": 64}, {"rig": "elevations"}])
def test_right_cameras_pass(rig: dict[str, object]) -> None:
    assert list(validate(rendered(**rig))) == []
    assert list(validate(with_cameras(rendered(**rig), turned))) == []


def swapped(cameras: Camera) -> Camera:
    order = torch.arange(len(cameras.pose))
    order[2], order[7] = 7, 2
    return cameras[order]


def reversed_(cameras: Camera) -> Camera:
    return cameras[-torch.arange(len(cameras.pose)) % len(cameras.pose)]


def one_turned(cameras: Camera) -> Camera:
    pose = cameras.pose.clone()
    pose[5] = turned(cameras).pose[5]
    return Camera(pose, cameras.intrinsics)


def wider(cameras: Camera) -> Camera:
    return Camera(cameras.pose, cameras.intrinsics * torch.tensor([0.7, 0.7, 1, 1]))


def looking_up_z(cameras: Camera) -> Camera:
    """OpenCV's axes: y down, z forward."""
    return Camera(cameras.pose * torch.tensor([1.0, -1, -1, 1]), cameras.intrinsics)


@pytest.mark.parametrize("change", [swapped, reversed_, one_turned, wider, looking_up_z])
def test_wrong_cameras_are_found(change: Callable[[Camera], Camera]) -> None:
    found = list(validate(with_cameras(rendered(), change)))
    assert found
    assert "camera and picture do not belong together" in found[0].found


def test_facts_that_contradict_each_other_are_found() -> None:
    sample = rendered()
    lower = replace(sample, meta={**sample.meta, "elevation": sample.meta["elevation"] - 3})
    assert "its cameras stand up to 3.0 degrees off" in next(validate(lower)).found
    fewer = replace(sample, views=sample.views[1:])
    assert next(validate(fewer)).found == "15 views, but 16 cameras"
    broken = with_cameras(sample, lambda cameras: Camera(cameras.pose * 1.1, cameras.intrinsics))
    assert "is no rotation" in next(validate(broken)).found


def test_the_picture_of_the_axes(tmp_path: Path) -> None:
    cameras = draw_axes(config(), tmp_path / "axes.png")
    assert len(cameras.pose) == 16
    assert (tmp_path / "axes.png").read_bytes().startswith(b"\x89PNG")
