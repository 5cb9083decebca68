"""The renderer against an embree ray caster, and what happens to meshes that cannot be rendered."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.camera import Camera
from stages.rendering import views as rendering_views
from stages.rendering.config import RenderingConfig
from stages.rendering.loader import geometry_hash, load
from stages.rendering.manifest import write_manifest
from stages.rendering.mesh import MeshError, flatten, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix
from stages.rendering.views import render_shard
from stages.sandbox import Limits
from stages.shards import read_shard
from tests.stages.awkward import write_awkward
from tests.stages.misbehaving import load_or_not

CONFIG = RenderingConfig(size=32, supersampling=1, views=8)


def save(folder: Path, name: str, mesh: trimesh.Trimesh) -> Path:
    path = folder / name
    mesh.export(path)
    return path


def coloured(mesh: trimesh.Trimesh, colour: tuple[int, int, int, int] = (200, 40, 40, 255)) -> trimesh.Trimesh:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=np.tile(colour, (len(mesh.faces), 1)))
    return mesh


def row(name: str, file: str, split: str = "train", creator: str = "someone") -> dict[str, str]:
    facts = {"caption": name, "licence": "CC0-1.0", "creator": creator, "split": split, "md5": "0" * 32}
    return {"id": name, "file": file, **facts}


@pytest.mark.parametrize("shape", ["torus", "boxes"])
def test_coverage_and_depth_agree_with_a_ray_caster(tmp_path: Path, shape: str) -> None:
    mesh = trimesh.creation.torus(0.7, 0.25)
    if shape == "boxes":
        boxes = [trimesh.creation.box((0.3, 0.5, 0.9)).apply_translation((x, 0.1 * x, 0)) for x in (-1.0, 0.0, 1.0)]
        mesh = trimesh.util.concatenate(boxes)
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(np.array((0.1, 0.5, 0.9))))
    loaded = load_mesh(save(tmp_path, "mesh.glb", coloured(mesh)), CONFIG)
    cameras = Camera.orbit(4, 25)
    ours = render(loaded, cameras, CONFIG)
    embree = trimesh.ray.ray_pyembree.RayMeshIntersector(trimesh.Trimesh(loaded.vertices, loaded.faces, process=False))
    for view in range(4):
        origins, directions = (part.numpy().astype(np.float64) for part in cameras[view].rays(CONFIG.size))
        points, rays, _ = embree.intersects_location(origins, directions, multiple_hits=False)
        expected = np.zeros(CONFIG.size**2)
        axis = -cameras[view].pose[:3, 2].numpy()
        expected[rays] = (points - origins[rays]) @ axis
        depth = ours.depth[view].ravel()
        assert ((expected > 0) == (depth > 0)).mean() > 0.995  # edges fall on either side
        both = (expected > 0) & (depth > 0)
        assert both.sum() > 50
        np.testing.assert_allclose(depth[both], expected[both], atol=1e-3)


def test_colour_is_not_darkened_at_the_edges(tmp_path: Path) -> None:
    mesh = load_mesh(save(tmp_path, "ball.glb", coloured(trimesh.creation.icosphere(3))), CONFIG)
    config = CONFIG.model_copy(update={"supersampling": 4, "ambient": 1.0})
    rgba = render(mesh, Camera.orbit(1, 0), config).rgba[0]
    edge = (rgba[..., 3] > 0) & (rgba[..., 3] < 255)
    assert edge.sum() > 10
    np.testing.assert_allclose(rgba[edge][:, :3], np.tile((200, 40, 40), (edge.sum(), 1)), atol=2)


def test_a_face_is_seen_from_both_sides(tmp_path: Path) -> None:
    square = trimesh.Trimesh([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], [[0, 1, 2], [0, 2, 3]], process=False)
    mesh = load_mesh(save(tmp_path, "square.glb", coloured(square)), CONFIG)
    views = render(mesh, Camera.orbit(2, 0), CONFIG)
    assert (views.rgba[..., 3] > 0).sum(axis=(1, 2)).min() > 100
    np.testing.assert_array_equal(views.rgba[0, ..., 3], views.rgba[1, ::1, ::-1, 3])


def test_textures_stand_the_right_way_up(tmp_path: Path) -> None:
    texture = Image.new("RGB", (2, 2), (255, 0, 0))
    texture.putpixel((0, 1), (0, 0, 255))  # bottom row blue
    texture.putpixel((1, 1), (0, 0, 255))
    square = trimesh.Trimesh([[0, 0, 1], [0, 0, -1], [0, 2, -1], [0, 2, 1]], [[0, 1, 2], [0, 2, 3]], process=False)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=texture)
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    mesh = load_mesh(save(tmp_path, "square.glb", square), CONFIG)  # glTF: y is up
    rgba = render(mesh, Camera.orbit(1, 0), CONFIG).rgba[0]
    rows = np.nonzero(rgba[..., 3].any(1))[0]
    top, bottom = (rgba[round(np.quantile(rows, share)), 16] for share in (0.25, 0.75))
    assert top[0] > 100 > top[2]
    assert bottom[2] > 100 > bottom[0]


def test_half_transparent_faces_cover_half(tmp_path: Path) -> None:
    ball = trimesh.creation.box((1, 1, 1))
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=(255, 255, 255, 128), alphaMode="BLEND")
    ball.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(ball.vertices), 2)), material=material)
    mesh = load_mesh(save(tmp_path, "glass.glb", ball), CONFIG)
    alpha = render(mesh, Camera.orbit(1, 0), CONFIG.model_copy(update={"supersampling": 4})).rgba[0, 16, 16, 3]
    assert 110 <= alpha <= 150


def broken_files(folder: Path) -> dict[str, str]:
    """Files that the renderer refuses, and the reason each must be given."""
    save(folder, "big.stl", trimesh.creation.icosphere(5))
    dot = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    save(folder, "dot.obj", dot)
    return {"big.stl": "too many faces", "dot.obj": "all vertices coincide"}


def test_what_cannot_be_rendered_is_quarantined_and_its_neighbours_are_not(tmp_path: Path) -> None:
    meshes, shard = tmp_path / "meshes", tmp_path / "shards" / "000"
    meshes.mkdir()
    shard.mkdir(parents=True)
    reasons = broken_files(meshes) | write_awkward(meshes) | {"absent.glb": "unreadable"}
    save(meshes, "good.glb", coloured(trimesh.creation.box()))
    files = {file.replace(".", "-"): file for file in (*reasons, "good.glb")}
    rows = [row(id_, file) for id_, file in files.items()]
    config = CONFIG.model_copy(update={"max_faces": 14_000})
    render_shard(pl.DataFrame(rows), meshes, shard, config, seed=0, report=lambda event: None)
    assert [sample.id for sample in read_shard(shard / "views.tar")] == ["good-glb-0-0"]
    found = {files[r["id"]]: r["reason"] for r in pl.read_parquet(shard / "quarantine.parquet").to_dicts()}
    assert found == reasons
    write_manifest(tmp_path / "shards", tmp_path)
    manifest = pl.read_parquet(tmp_path / "manifest.parquet")
    assert len(manifest) == len(rows)
    assert manifest["reason"].null_count() == 1
    assert manifest.filter(pl.col("id") == "huge-ply")["error"].item() == "350000000000 of face in a file of 165 bytes"


def test_a_loader_that_hangs_or_grabs_memory_or_crashes_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering_views, "load", load_or_not)
    for name in ("allocate", "crash", "good", "sleep"):
        save(tmp_path, f"{name}.glb", coloured(trimesh.creation.box()))
    rows = pl.DataFrame([row(name, f"{name}.glb") for name in ("allocate", "crash", "good", "sleep")])
    limits = Limits(seconds=1, wall=2, gigabytes=0.5)
    render_shard(rows, tmp_path, tmp_path, CONFIG, seed=0, report=lambda event: None, limits=limits)
    assert [sample.id for sample in read_shard(tmp_path / "views.tar")] == ["good-0-0"]
    reasons = pl.read_parquet(tmp_path / "quarantine.parquet")["reason"].to_list()
    assert reasons == ["too much memory", "crashed", "too slow"]


@given(turn=st.tuples(*[st.floats(0, 1)] * 3), scale=st.floats(0.01, 100), noise=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_a_shape_is_known_again(turn: tuple[float, float, float], scale: float, noise: int) -> None:
    shape = trimesh.util.concatenate([trimesh.creation.torus(0.7, 0.2), trimesh.creation.box((0.5, 0.7, 2))])
    other = shape.copy().subdivide()
    other.apply_transform(trimesh.transformations.random_rotation_matrix(np.array(turn)))
    other.apply_scale(scale).apply_translation((noise, 2, 3))
    other.invert()
    assert geometry_hash(flatten(trimesh.Scene([shape]), CONFIG)) == geometry_hash(
        flatten(trimesh.Scene([other]), CONFIG)
    )
    shape.vertices[:, 0] *= 1.02
    assert geometry_hash(flatten(trimesh.Scene([shape]), CONFIG)) != geometry_hash(
        flatten(trimesh.Scene([other]), CONFIG)
    )


def test_copies_and_histograms_stand_in_the_manifest(tmp_path: Path) -> None:
    shard = tmp_path / "shards" / "000"
    shard.mkdir(parents=True)
    save(tmp_path, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    save(tmp_path, "copy.ply", coloured(trimesh.creation.box((4, 6, 2)), (0, 0, 200, 255)))
    save(tmp_path, "ball.stl", trimesh.creation.icosphere())
    rows = [row("box", "box.glb"), row("copy", "copy.ply"), row("ball", "ball.stl")]
    render_shard(pl.DataFrame(rows), tmp_path, shard, CONFIG, seed=0, report=lambda event: None)
    write_manifest(tmp_path / "shards", tmp_path)
    manifest = pl.read_parquet(tmp_path / "manifest.parquet")
    assert dict(manifest.select("object", "duplicate_of").iter_rows()) == {"ball": None, "box": None, "copy": "box"}
    for sample in read_shard(shard / "views.tar"):
        covered = manifest.filter(pl.col("id") == sample.id)["coverage"].item()
        assert covered == pytest.approx(sample.views[..., 3].mean() / 255, abs=1e-5)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert (told["objects"], told["views"], told["duplicates"]) == (3, 24, 1)
    assert told["licences"] == {"CC0-1.0": 3}
    assert sum(count for _, _, count in told["elevations"]) == sum(count for _, _, count in told["coverage"]) == 3


def test_a_turned_file_is_seen_as_its_rotation_says(tmp_path: Path) -> None:
    arrow = trimesh.util.concatenate([trimesh.creation.box((0.1, 1, 0.1)), trimesh.creation.box((0.6, 0.2, 0.3))])
    save(tmp_path, "upright.ply", arrow)
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # what lay along z stands up
    lying = arrow.copy()
    lying.vertices = lying.vertices @ turn  # its inverse applied
    save(tmp_path, "lying.ply", lying)
    upright = load(tmp_path / "upright.ply", CONFIG)
    stood = load(tmp_path / "lying.ply", CONFIG, turn.ravel().tolist())
    np.testing.assert_allclose(stood.mesh.vertices, upright.mesh.vertices, atol=1e-6)


def test_depth_and_normals_are_stored_on_request(tmp_path: Path) -> None:
    save(tmp_path, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    objects, content = pl.DataFrame([row("box", "box.glb")]), []
    for name, wanted in (("plain", False), ("with", True), ("again", True)):
        (tmp_path / name).mkdir()
        config = CONFIG.model_copy(update={"geometry": wanted})
        render_shard(objects, tmp_path, tmp_path / name, config, seed=0, report=lambda e: None)
        content.append((tmp_path / name / "views.tar").read_bytes())
    assert content[0] != content[1] == content[2]
    (plain,), (sample,) = (read_shard(tmp_path / name / "views.tar") for name in ("plain", "with"))
    assert np.array_equal(plain.views, sample.views)
    with tarfile.open(tmp_path / "with" / "views.tar") as tar:
        stored = tar.extractfile(f"{sample.id}.geometry.npz")
        assert stored is not None
        arrays = np.load(io.BytesIO(stored.read()))
    seen = render(load_mesh(tmp_path / "box.glb", CONFIG), sample.cameras, CONFIG)
    np.testing.assert_allclose(arrays["depth"], seen.depth, atol=2e-3)
    np.testing.assert_allclose(arrays["normals"], seen.normals, atol=2e-3)
    assert ((arrays["depth"] > 0) == (sample.views[..., 3] > 0)).all()


def test_the_same_bytes_twice_and_other_bytes_for_another_seed(tmp_path: Path) -> None:
    save(tmp_path, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    config = CONFIG.model_copy(update={"variants": 2, "orbits": 2})
    content = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        render_shard(pl.DataFrame([row("box", "box.glb")]), tmp_path, folder, config, seed=seed, report=lambda e: None)
        content.append((folder / "views.tar").read_bytes())
    assert content[0] == content[1] != content[2]


def test_only_training_objects_get_further_versions(tmp_path: Path) -> None:
    save(tmp_path, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    rows = [row("a", "box.glb"), row("b", "box.glb", split="held-out")]
    config = CONFIG.model_copy(update={"variants": 3})
    render_shard(pl.DataFrame(rows), tmp_path, tmp_path, config, seed=0, report=lambda e: None)
    assert [s.id for s in read_shard(tmp_path / "views.tar")] == ["a-0-0", "a-1-0", "a-2-0", "b-0-0"]


def test_recolouring_without_strength_keeps_colours() -> None:
    np.testing.assert_allclose(colour_matrix(np.random.default_rng(0), 0.0), np.eye(3), atol=1e-6)


def test_every_stored_camera_sees_its_object(tmp_path: Path) -> None:
    save(tmp_path, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    render_shard(pl.DataFrame([row("a", "box.glb")]), tmp_path, tmp_path, CONFIG, seed=3, report=lambda e: None)
    (sample,) = read_shard(tmp_path / "views.tar")
    centre = sample.cameras.project(torch.zeros(1, 3))
    assert np.allclose(centre[..., :2], 0.5, atol=1e-5)
    heights = sample.cameras.pose[:, 2, 3] / 1.5
    np.testing.assert_allclose(np.degrees(np.arcsin(heights)), sample.meta["elevation"], atol=1e-3)


def test_load_mesh_names_the_reason(tmp_path: Path) -> None:
    (tmp_path / "x.glb").write_bytes(b"glTF")
    with pytest.raises(MeshError, match="unreadable"):
        load_mesh(tmp_path / "x.glb", CONFIG)


def test_invented_objects_join_a_shard_and_touch_no_other(tmp_path: Path) -> None:
    save(tmp_path, "a.glb", coloured(trimesh.creation.box((1, 2, 1))))
    objects = pl.DataFrame([{**row("a", "a.glb"), "shard": "003"}])
    for name, invented in (("without", 0), ("with", 2)):
        (tmp_path / name).mkdir()
        config = CONFIG.model_copy(update={"invented": invented})
        render_shard(objects, tmp_path, tmp_path / name, config, seed=1, report=lambda event: None)
    alone = list(read_shard(tmp_path / "without" / "views.tar"))
    joined = {sample.id: sample for sample in read_shard(tmp_path / "with" / "views.tar")}
    assert np.array_equal(joined[alone[0].id].views, alone[0].views)
    invented = {id_: sample for id_, sample in joined.items() if id_ != alone[0].id}
    assert set(invented) == {"invented-003-0000-0-0", "invented-003-0001-0-0"}
    for sample in invented.values():
        assert (sample.meta["split"], sample.meta["licence"], sample.meta["parents"]) == ("train", "CC0-1.0", [])
