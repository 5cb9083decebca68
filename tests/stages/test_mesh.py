"""From a density field to files: surface, parts, decimation, texture, and what other programs read of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.errors import InputError
from stages.reconstruction.config import MeshConfig
from stages.reconstruction.files import Axis, write_mesh
from stages.reconstruction.mesh import colours_at, extract_mesh, extract_surface
from stages.reconstruction.texture import rasterise, textured
from tests.stages.fields import balls, field

BALL = balls(((0, 0, 0), 0.6))
EXTRAS = {"model_md5": "0" * 32, "generator": "Orbitforge"}


def config(**changes: Any) -> MeshConfig:
    return MeshConfig.model_validate({"grid": 48, "threshold": 1.0, **changes})


def test_a_threshold_that_nothing_reaches_is_named_with_the_largest_density() -> None:
    lrm, planes = field(BALL)
    with pytest.raises(InputError, match=r"reaches the threshold 50.*largest is about [56]\."):
        extract_surface(lrm, lrm.field(planes), planes.box, config(threshold=50.0))


def test_densities_that_are_no_numbers_are_named() -> None:
    lrm, planes = field(lambda points: torch.where(points[..., 0] > 0.5, torch.nan, 1.0))
    with pytest.raises(InputError, match="densities are not finite"):
        extract_mesh(lrm, planes, MeshConfig.model_validate({"grid": 16}))


@pytest.mark.parametrize("inside", [5.0, 60.0, 1000.0])
def test_the_automatic_threshold_shows_the_silhouette_that_the_volume_has(inside: float) -> None:
    """Fog of a tenth around a ball of radius 0.5: the surface is the ball's however dense both are."""

    def foggy(points: torch.Tensor) -> torch.Tensor:
        distance = points.norm(dim=-1)
        return torch.where(distance < 0.5, inside, torch.where(distance < 0.8, 0.02, 0.0))

    lrm, planes = field(foggy)
    mesh = extract_surface(lrm, planes, planes.box, config(threshold=None, grid=64))
    assert 0.02 < mesh.metadata["threshold"] < inside
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5, atol=0.04)


def test_small_parts_are_left_out() -> None:
    density = balls(((0, 0, 0), 0.5), ((0.7, 0.7, 0.7), 0.18), ((-0.6, -0.6, 0), 0.35))
    lrm, planes = field(density)
    counts = [
        extract_surface(lrm, planes, planes.box, config(smallest_part=share)).body_count for share in (0.0, 0.05, 0.9)
    ]
    assert counts == [3, 2, 1]


def test_decimation_keeps_the_shape() -> None:
    lrm, planes = field(BALL)
    fine, coarse = (extract_mesh(lrm, planes, config(faces=faces)) for faces in (None, 1000))
    assert len(coarse.faces) <= 1000 < len(fine.faces)
    assert coarse.is_watertight
    assert coarse.volume == pytest.approx(fine.volume, rel=0.01)
    colours = coarse.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(colours, colours_at(lrm, planes, coarse.vertices), atol=1 / 255)


@pytest.mark.parametrize(("faces", "near"), [(500, 0.05), (4000, 0.01)])
def test_slabs_that_are_decimated_alone_still_meet(faces: int, near: float) -> None:
    lrm, planes = field(balls(((0, 0, 0), 0.6), ((0.3, 0.2, 0.5), 0.3)))
    fine, coarse = (extract_surface(lrm, planes, planes.box, config(grid=130, faces=most)) for most in (None, faces))
    assert len(coarse.faces) <= faces
    assert coarse.is_watertight
    assert coarse.body_count == fine.body_count
    assert coarse.volume == pytest.approx(fine.volume, rel=near)


def surface_with_texture() -> tuple[Any, Any, trimesh.Trimesh]:
    lrm, planes = field(BALL)
    mesh = extract_surface(lrm, planes, planes.box, config(faces=2000))
    return lrm, planes, textured(mesh, lambda points: colours_at(lrm, planes, points), 256)


def looked_up(mesh: trimesh.Trimesh, image: Image.Image, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Bilinear texture colours of points on the surface, by a look-up of its own."""
    shares = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], points)
    uv = np.einsum("pc,pcx->px", shares, np.asarray(mesh.visual.uv)[mesh.faces[faces]])
    pixels = np.asarray(image.convert("RGB")).astype(float)
    height, width, _ = pixels.shape
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - column)[:, None], (y - row)[:, None]

    def at(dy: int, dx: int) -> np.ndarray:
        return pixels[np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)]

    top, bottom = at(0, 0) * (1 - right) + at(0, 1) * right, at(1, 0) * (1 - right) + at(1, 1) * right
    return (top * (1 - down) + bottom * down) / 255


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_a_texture_survives_the_file_with_the_colours_of_the_field(suffix: str, tmp_path: Path) -> None:
    lrm, planes, mesh = surface_with_texture()
    files = write_mesh(mesh, tmp_path / f"my ball{suffix}", EXTRAS, up="z")
    assert files[0].name == f"my ball{suffix}"
    assert all(file.is_file() for file in files)
    again: Any = trimesh.load(files[0], force="mesh", process=False)
    assert len(again.faces) == len(mesh.faces)
    material = again.visual.material
    image = material.baseColorTexture if suffix == ".glb" else material.image
    points, faces = trimesh.sample.sample_surface(again, 3000, seed=0)
    difference = np.abs(looked_up(again, image, points, faces) - colours_at(lrm, planes, points))
    assert difference.mean() < 0.004
    assert np.quantile(difference, 0.999) < 0.03, "seams included"
    if suffix == ".obj":
        assert {file.name for file in files} == {"my ball.obj", "my_ball.mtl", "my_ball_texture.png"}
        assert "model_md5" in files[0].read_text().partition("\n")[0]


def test_a_ply_has_the_colours_at_its_vertices_and_is_whole(tmp_path: Path) -> None:
    lrm, planes, mesh = surface_with_texture()
    write_mesh(mesh, tmp_path / "ball.ply", EXTRAS, up="z")
    again: Any = trimesh.load(tmp_path / "ball.ply", process=False)
    assert again.is_watertight
    np.testing.assert_allclose(
        again.visual.vertex_colors[:, :3] / 255, colours_at(lrm, planes, again.vertices), atol=0.03
    )
    assert b"model_md5" in (tmp_path / "ball.ply").read_bytes()[:300]


def test_a_glb_says_where_it_comes_from(tmp_path: Path) -> None:
    _, _, mesh = surface_with_texture()
    write_mesh(mesh, tmp_path / "ball.glb", EXTRAS)
    data = (tmp_path / "ball.glb").read_bytes()
    assert json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])["asset"]["extras"] == EXTRAS


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
def test_up_and_size_are_what_was_asked_for(suffix: str, up: Axis, axis: int, tmp_path: Path) -> None:
    """A ball on a pillar: what is on top is known by its volume, and turned over it would have another one."""
    lrm, planes = field(balls(((0, 0, 0.4), 0.4), ((0, 0, -0.3), 0.25), ((0, 0, 0), 0.25)))
    mesh = extract_mesh(lrm, planes, config(faces=3000))
    write_mesh(mesh, tmp_path / f"x{suffix}", EXTRAS, up=up, scale=3.0)
    again: Any = trimesh.load(tmp_path / f"x{suffix}", force="mesh")
    assert again.extents.max() == pytest.approx(3.0, rel=1e-3)
    assert int(np.argmax(again.extents)) == axis
    assert again.center_mass[axis] > again.bounds.mean(0)[axis] + 0.1
    assert again.volume > 0
    reddest = again.vertices[np.argmax(again.visual.vertex_colors[:, 0]), axis]
    assert reddest > again.bounds.mean(0)[axis]
    stored = np.asarray(again.vertex_normals)
    assert (np.einsum("ij,ij->i", stored, again.vertices - again.center_mass) > 0).mean() > 0.9


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.stl should end in \.glb, \.obj or \.ply"):
        write_mesh(trimesh.creation.box(), tmp_path / "x.stl", EXTRAS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.0, width=32), min_size=6, max_size=6),
    st.integers(5, 40),
    st.integers(5, 40),
)
def test_texels_belong_to_the_triangle_that_holds_them(numbers: list[float], height: int, width: int) -> None:
    uv = np.array(numbers).reshape(3, 2)
    owner, shares = rasterise(np.array([[0, 1, 2]]), uv, (height, width))
    corners = np.stack((uv[:, 0] * width, (1 - uv[:, 1]) * height), -1)
    rows, columns = np.mgrid[:height, :width] + 0.5
    texels = np.stack((columns, rows), -1).reshape(-1, 2)
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if abs(area) < 1e-3:
        return
    w1 = ((texels[:, 0] - ax) * (cy - ay) - (texels[:, 1] - ay) * (cx - ax)) / area
    w2 = ((bx - ax) * (texels[:, 1] - ay) - (by - ay) * (texels[:, 0] - ax)) / area
    plain = np.stack((1 - w1 - w2, w1, w2), -1)
    inside = (plain > 1e-6).all(1)
    assert (owner.ravel()[inside] == 0).all()
    np.testing.assert_allclose(shares.reshape(-1, 3)[inside], plain[inside], atol=1e-4)
    covered = owner.ravel() == 0
    near = corners.min(0) - 1.01, corners.max(0) + 1.01
    assert ((texels[covered] >= near[0]) & (texels[covered] <= near[1])).all()
    assert (shares.reshape(-1, 3)[covered] >= 0).all()
    np.testing.assert_allclose(shares.reshape(-1, 3)[covered].sum(1), 1, atol=1e-5)
