"""Chamfer distance and F-score beside a plain implementation, and a model's surface in the truth's world."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.camera import Camera
from models.perceptual import TokenDistance
from models.triplane import Triplane
from stages.evaluation.geometry import chamfer, f_score, geometry, held_out_surfaces, surface
from stages.evaluation.held_out import figures
from stages.reconstruction.config import MeshConfig, ProtocolConfig
from stages.reconstruction.data import Orbits
from stages.rendering.config import RenderingConfig
from tests.models.test_perceptual import encoder
from tests.stages.fields import balls, field
from tests.stages.test_evaluation import squares, truth_of

PROTOCOL = ProtocolConfig.model_validate({})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000), st.floats(0.01, 1.0))
def test_figures_agree_with_all_pairs(n: int, m: int, seed: int, near: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    pairs = np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    assert chamfer(first, second) == pytest.approx((pairs.min(1).mean() + pairs.min(0).mean()) / 2)
    assert chamfer(first, second) == pytest.approx(chamfer(second, first))
    precision, recall = (pairs.min(1) < near).mean(), (pairs.min(0) < near).mean()
    wanted = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert f_score(first, second, near) == pytest.approx(wanted)


def test_two_balls_are_as_far_apart_as_their_radii() -> None:
    small, large = (surface(trimesh.creation.icosphere(4, radius), 5000, 0).points for radius in (0.5, 0.6))
    assert chamfer(small, large) == pytest.approx(0.1, abs=0.01)
    assert f_score(small, large, 0.09) == 0
    assert f_score(small, large, 0.12) > 0.99
    assert f_score(small, small) == 1


class Lump(SimpleNamespace):
    """A model that always sees a ball in front of the camera that took its picture, at the right."""

    def __init__(self) -> None:
        fake, planes = field(balls(((0.4, 0.3, 0.2), 0.3)))
        super().__init__(**vars(fake), found=planes)

    def triplane(self, image: Tensor, camera: Camera) -> Triplane:
        assert float(camera.pose[0, 0, 3]) > 0
        assert abs(float(camera.pose[0, 1, 3])) < 1e-5
        return self.found


def ring(views: int = 8) -> Orbits:
    grey = torch.full((1, views, 3, 8, 8), 90, dtype=torch.uint8)
    numbers = Camera.orbit(views, 20.0).numbers()[None]
    return Orbits(grey, torch.full((1, views, 8, 8), 255, dtype=torch.uint8), Camera.from_numbers(numbers), ("x-0-0",))


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 225.0])
def test_a_surface_is_compared_in_the_world_of_the_truth(azimuth: float) -> None:
    turn = np.radians(azimuth)
    centre = np.array([0.4 * np.cos(turn) - 0.3 * np.sin(turn), 0.4 * np.sin(turn) + 0.3 * np.cos(turn), 0.2])
    truth = surface(trimesh.creation.icosphere(3, 0.2), 3000, 0).points + centre
    config = MeshConfig.model_validate({"grid": 48, "threshold": 1.0, "faces": None})
    protocol = PROTOCOL.model_copy(update={"input_azimuth": azimuth})
    model: Any = Lump()
    (row,) = geometry(model, ring(), protocol, {"x": truth}, config).to_dicts()
    assert row["chamfer"] < 0.02
    assert row["f_score"] > 0.99
    assert geometry(None, ring(), protocol, {"x": truth}, config).row(0)[2:] == (None, None)
    beyond = config.model_copy(update={"threshold": 1e6})
    assert geometry(model, ring(), protocol, {"x": truth}, beyond).row(0)[2:] == (None, None)
    assert geometry(model, ring(), protocol, {}, config).is_empty()


def test_true_surfaces_are_placed_as_they_are_rendered(tmp_path: Path) -> None:
    trimesh.creation.box((1, 2, 4)).export(tmp_path / "a.glb")
    objects = pl.DataFrame({"id": ["a", "b"], "file": ["a.glb", "b.glb"]})
    config = RenderingConfig.model_validate({})
    surfaces = held_out_surfaces(objects, tmp_path, config, ("a-0-0", "a-0-1", "invented-000-0001-0-0"))
    assert list(surfaces) == ["a"]
    again = held_out_surfaces(objects, tmp_path, config, ("a-0-0",))
    np.testing.assert_array_equal(surfaces["a"], again["a"])
    assert np.abs(surfaces["a"]).max() <= config.fit + 1e-6


def test_figures_hold_the_distance_or_null() -> None:
    orbits = squares()
    assert figures(truth_of(orbits), orbits, PROTOCOL)["feature_distance"].null_count() == 2
    table = figures(truth_of(orbits), orbits, PROTOCOL, TokenDistance(encoder()))
    assert (table["feature_distance"] == 0).all()
