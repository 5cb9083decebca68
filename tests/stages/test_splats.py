"""Splats on disk: read by other programs, turned as meshes are, and refused where they are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from models.camera import Camera
from models.gaussians import Gaussians
from models.splatting import splat
from stages.errors import InputError
from stages.reconstruction.files import write_mesh
from stages.reconstruction.splats import COLUMNS, read_splats, write_splats


def some(n: int = 30, seed: int = 0) -> Gaussians:
    draw = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.rand(n, 3, generator=draw) - 0.5,
        0.01 + 0.2 * torch.rand(n, 3, generator=draw),
        torch.nn.functional.normalize(torch.randn(n, 4, generator=draw), dim=-1),
        torch.rand(n, generator=draw),
        torch.rand(n, 3, generator=draw),
    )


def columns(path: Path) -> np.ndarray:
    """As trimesh reads them."""
    return trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]["data"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(0, 1000), st.sampled_from(["y", "z"]))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, up: str) -> None:
    path = tmp_path_factory.mktemp("splats") / "a.ply"
    gaussians = some(n, seed)
    again = read_splats(write_splats(gaussians, path, {}, up=up), up=up)  # pyright: ignore
    for name in ("positions", "scales", "opacities", "colours"):
        torch.testing.assert_close(getattr(again, name), getattr(gaussians, name), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again.covariances(), gaussians.covariances(), atol=1e-6, rtol=1e-4)


def test_other_readers_find_the_columns_of_3dgs(tmp_path: Path) -> None:
    gaussians = some()
    path = write_splats(gaussians, tmp_path / "deep" / "a.ply", {"model": "é"}, up="z")
    header = path.read_bytes().split(b"end_header")[0].decode().splitlines()
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    assert json.loads(header[2].removeprefix("comment Orbitforge ")) == {"model": "é"}
    found = columns(path)
    assert found.dtype.names == COLUMNS
    assert len(found) == 30
    np.testing.assert_allclose(np.exp(found["scale_1"]), gaussians.scales[:, 1], rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-found["opacity"])), gaussians.opacities, atol=1e-5)
    np.testing.assert_allclose(0.5 + 0.28209479 * found["f_dc_2"], gaussians.colours[:, 2], atol=1e-5)
    assert not found["nx"].any()
    assert [each.name for each in path.parent.iterdir()] == ["a.ply"]


def test_gsplats_exporter_writes_the_same_numbers(tmp_path: Path) -> None:
    exporter = pytest.importorskip("gsplat.exporter", reason="gsplat is not installed")
    gaussians = some()
    harmonics = (gaussians.colours - 0.5) / 0.28209479177387814
    theirs = exporter.export_splats(
        gaussians.positions,
        gaussians.scales.log(),
        gaussians.rotations,
        gaussians.opacities.logit(),
        harmonics[:, None],
        torch.zeros(30, 0, 3),
        save_to=str(tmp_path / "theirs.ply"),
    )
    assert theirs
    ours, other = columns(write_splats(gaussians, tmp_path / "ours.ply", {}, up="z")), columns(tmp_path / "theirs.ply")
    shared = [name for name in COLUMNS if name[0] != "n"]
    assert set(shared) <= set(other.dtype.names)
    for name in shared:
        np.testing.assert_allclose(ours[name], other[name], rtol=1e-4, atol=1e-5)
    again = read_splats(tmp_path / "theirs.ply", up="z")
    torch.testing.assert_close(again.positions, gaussians.positions)


def test_splats_and_a_mesh_are_turned_and_scaled_alike(tmp_path: Path) -> None:
    gaussians = some(8)
    corners = trimesh.Trimesh(gaussians.positions.numpy(), [[0, 1, 2], [3, 4, 5], [5, 6, 7]], process=False)
    write_mesh(corners, tmp_path / "mesh.ply", {}, scale=3.0)
    write_splats(gaussians, tmp_path / "splats.ply", {}, scale=3.0)
    found = columns(tmp_path / "splats.ply")
    placed = np.stack([found[axis] for axis in "xyz"], -1)
    np.testing.assert_allclose(placed, trimesh.load(tmp_path / "mesh.ply", process=False).vertices, atol=1e-5)
    factor = 3.0 / np.ptp(gaussians.positions.numpy(), axis=0).max()
    np.testing.assert_allclose(np.exp(found["scale_0"]), factor * gaussians.scales[:, 0].numpy(), rtol=1e-4)


def test_turned_splats_look_the_same_from_turned_cameras(tmp_path: Path) -> None:
    gaussians, ring = some(), Camera.orbit(3, 20.0)
    in_file = read_splats(write_splats(gaussians, tmp_path / "a.ply", {}), up="z")  # as it stands there, y up
    turn = torch.eye(4)
    turn[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    turned = Camera(turn @ ring.pose, ring.intrinsics)
    for one, other in zip(splat(gaussians, ring, 24), splat(in_file, turned, 24), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should end in \.ply"):
        write_splats(some(), tmp_path / "a.splat", {})
    broken = replace(some(), scales=torch.full((30, 3), torch.nan))
    with pytest.raises(InputError, match="30 of 30 Gaussians have values that are not finite"):
        write_splats(broken, tmp_path / "a.ply", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: b"solid x", "is no PLY file"),
        (lambda data: data.replace(b"little", b"big   "), "no binary little-endian PLY"),
        (lambda data: data.replace(b"scale_1", b"other_1"), "have no scale_1"),
        (lambda data: data.replace(b"float x", b"list x"), "header that is not understood"),
        (lambda data: data.replace(b"element vertex", b"element face"), "does not begin with vertices"),
        (lambda data: data[:-5], "is cut short"),
        (lambda data: data[:-4] + np.float32(np.nan).tobytes(), "not finite"),
    ],
)
def test_foreign_files_are_refused_in_one_line(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    path = write_splats(some(), tmp_path / "a.ply", {})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=said) as told:
        read_splats(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_file_and_a_mesh_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_splats(tmp_path / "none.ply")
    write_mesh(trimesh.creation.box(), tmp_path / "box.ply", {})
    with pytest.raises(InputError, match="holds no splats"):
        read_splats(tmp_path / "box.ply")
