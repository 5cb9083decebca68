"""Solid space against bodies whose inside is known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh, flatten
from stages.rendering.solid import solid, surface_points

GRID, HALF = 40, 0.82


def mesh_of(*parts: trimesh.Trimesh) -> Mesh:
    return flatten(trimesh.Scene(list(parts)), RenderingConfig.model_validate({}))


def cells_of(mesh: Mesh) -> np.ndarray:
    return solid(mesh, np.random.default_rng(0), GRID, HALF).astype(bool)


def centres() -> np.ndarray:
    line = ((np.arange(GRID) + 0.5) / GRID * 2 - 1) * HALF
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)


@pytest.mark.parametrize("soup", [False, True])
def test_a_ball_is_solid_though_its_faces_may_be_a_soup(soup: bool) -> None:
    ball = trimesh.creation.icosphere(4)
    if soup:  # not watertight and half inside out, as most meshes in the wild
        faces = np.arange(3 * len(ball.faces)).reshape(-1, 3)
        faces[::2] = faces[::2, ::-1]
        ball = trimesh.Trimesh(ball.triangles.reshape(-1, 3), faces, process=False)
    far = np.linalg.norm(centres(), axis=-1)
    cells = cells_of(mesh_of(ball))
    cell = 2 * HALF / GRID
    assert cells[far < 0.8 - cell].mean() > 0.999
    assert cells[far > 0.8 + 1.5 * cell].mean() < 0.001


def test_an_open_box_is_hollow() -> None:
    box = trimesh.creation.box((1, 1, 1))
    box.update_faces(box.triangles_center[:, 1] < 0.49)
    mesh = mesh_of(box)
    cells, low = cells_of(mesh), mesh.vertices.min(0)
    inside = (np.abs(centres()) < 0.3).all(-1)
    assert cells[inside].mean() < 0.05
    wall = np.abs(centres()[..., 0] - low[0]) < HALF / GRID
    assert cells[wall & (np.abs(centres()[..., 1:]) < 0.3).all(-1)].all()


def test_space_between_table_legs_is_empty_and_legs_stay_whole() -> None:
    top = trimesh.creation.box((1.0, 0.1, 1.0)).apply_translation((0, 0.5, 0))
    legs = [
        trimesh.creation.box((0.05, 1.0, 0.05)).apply_translation((x, 0, z))
        for x in (-0.45, 0.45)
        for z in (-0.45, 0.45)
    ]
    mesh = mesh_of(top, *legs)
    cells = cells_of(mesh)
    low = mesh.vertices[:, 2].min()
    height = centres()[..., 2]
    middle = (np.abs(centres()[..., :2]).max(-1) < 0.2) & (height < 0.2) & (height > low)
    assert not cells[middle].any()
    level = cells[:, :, np.argmin(np.abs(height[0, 0] - (low + 0.3)))]
    assert 4 <= level.sum() <= 40


def test_surface_points_lie_on_the_surface_by_area() -> None:
    mesh = mesh_of(trimesh.creation.box((1.0, 2.0, 0.5)))
    points = surface_points(mesh, np.random.default_rng(0), 20_000)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    on_face = np.minimum(np.abs(points - low), np.abs(points - high)) < 1e-5
    assert on_face.any(1).all()
    x, y, z = high - low
    expected = np.array([y * z, x * z, x * y]) / (x * y + y * z + x * z)
    np.testing.assert_allclose(on_face.mean(0), expected, atol=0.02)
