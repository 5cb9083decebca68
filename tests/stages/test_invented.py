"""Invented objects are whole, of many kinds, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from models.camera import Camera
from stages.objects.invented import invent
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import flatten
from stages.rendering.rasterise import render

CONFIG = RenderingConfig.model_validate({"size": 32, "supersampling": 2})


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_seed_gives_one_object_that_can_be_seen(seed: int) -> None:
    mesh, again = invent(np.random.default_rng(seed)), invent(np.random.default_rng(seed))
    assert np.isfinite(mesh.vertices).all()
    assert np.array_equal(mesh.vertices, again.vertices)
    assert np.array_equal(mesh.faces, again.faces)
    assert np.array_equal(mesh.visual.vertex_colors, again.visual.vertex_colors)
    views = render(flatten(trimesh.Scene([mesh]), CONFIG), Camera.orbit(4, 30), CONFIG)
    assert views.rgba[..., 3].any(axis=(1, 2)).all()


def test_objects_differ_in_shape_and_colour() -> None:
    made = [invent(np.random.default_rng(seed)) for seed in range(40)]
    assert len({len(mesh.faces) for mesh in made}) > 20
    assert np.std([mesh.visual.vertex_colors[:, :3].mean() for mesh in made]) > 20
    shares = [np.sort(mesh.extents)[[0, 1]] / mesh.extents.max() for mesh in made]
    assert np.ptp(shares, axis=0).min() > 0.4  # flat ones and round ones


def test_objects_stand_upright() -> None:
    """Mesh files have y up: a chair's or cabinet's parts spread along it and not below its feet."""
    flattened = [flatten(trimesh.Scene([invent(np.random.default_rng(seed))]), CONFIG) for seed in range(40)]
    assert all(np.abs(mesh.vertices).max() <= CONFIG.fit + 1e-6 for mesh in flattened)
