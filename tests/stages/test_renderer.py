"""What the renderer draws: materials, shading, light, exact coverage, the same bytes everywhere, and its CUDA twin."""

from __future__ import annotations

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from models.camera import Camera
from stages.errors import InputError
from stages.rendering import rasterise
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh, flatten, load_mesh
from stages.rendering.rasterise import render

CONFIG = RenderingConfig(size=32, supersampling=4, ambient=1.0, device="cpu")
FRONT = Camera.orbit(1, 0)


def obj(folder: Path, material: str) -> Mesh:
    """A square that faces +x, once the file's y up is z up."""
    corners = "v 0 -1 -1\nv 0 1 -1\nv 0 1 1\nv 0 -1 1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
    (folder / "m.mtl").write_text(f"newmtl m\n{material}\n")
    (folder / "m.obj").write_text(f"mtllib m.mtl\n{corners}usemtl m\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n")
    return load_mesh(folder / "m.obj", CONFIG)


def pbr(folder: Path, *, colours: np.ndarray | None = None, **material: object) -> Mesh:
    square = trimesh.Trimesh([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], [[0, 1, 2], [0, 2, 3]], process=False)
    uv = [[0, 0], [1, 0], [1, 1], [0, 1]]
    square.visual = TextureVisuals(uv=uv, material=PBRMaterial(**material))
    if colours is not None:
        square.visual.vertex_attributes["color"] = colours
    square.export(folder / "m.glb")
    return load_mesh(folder / "m.glb", CONFIG)


def middle(mesh: Mesh, config: RenderingConfig = CONFIG) -> np.ndarray:
    """The mean colour of the object's inside."""
    return render(mesh, FRONT, config).rgba[0, 12:20, 12:20].reshape(-1, 4).mean(0)


@pytest.mark.parametrize(
    ("said", "alpha"),
    [
        ("", 255), ("d 1", 255), ("d 0.25", 64), ("Tr 0.25", 191), ("d -halo 0.5", 128), ("d 0.5\nTr 0.1", 128),
        ("d 0", 255), ("d nonsense", 255),
    ],
)  # fmt: skip
def test_an_mtl_says_how_opaque_a_material_is(tmp_path: Path, said: str, alpha: int) -> None:
    mesh = obj(tmp_path, f"Kd 1 0 0\n{said}")
    found = middle(mesh)
    np.testing.assert_allclose(found, (255, 0, 0, alpha), atol=10)
    assert (mesh.cutoff > 1).all() == (alpha == 255)  # opaque ones take the fast way


def test_holes_of_a_texture_are_holes(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (2, 1), (0, 255, 0, 255))
    picture.putpixel((1, 0), (0, 255, 0, 0))
    picture.resize((64, 32), Image.Resampling.NEAREST).save(tmp_path / "leaf.png")
    alpha = render(obj(tmp_path, "Kd 1 1 1\nmap_Kd leaf.png"), FRONT, CONFIG).rgba[0, :, 16, 3]  # u runs upwards
    assert sorted((int(alpha[10]), int(alpha[21]))) == [0, 255]


@pytest.mark.parametrize(
    ("mode", "cutoff", "alpha"),
    [("OPAQUE", None, 255), ("BLEND", None, 96), ("MASK", None, 0), ("MASK", 0.2, 255), ("MASK", 0.0, 255)],
)
def test_the_alpha_modes_of_gltf(tmp_path: Path, mode: str, cutoff: float | None, alpha: int) -> None:
    mesh = pbr(tmp_path, baseColorFactor=(255, 255, 255, 96), alphaMode=mode, alphaCutoff=cutoff)
    assert abs(middle(mesh)[3] - alpha) < 10


def test_vertex_colours_multiply_the_material(tmp_path: Path) -> None:
    colours = np.tile(np.array((128, 255, 255, 255), dtype=np.uint8), (4, 1))
    mesh = pbr(tmp_path, colours=colours, baseColorFactor=(200, 100, 50, 255))
    np.testing.assert_allclose(middle(mesh)[:3], (100, 100, 50), atol=1)


def test_flat_shading_shows_faces_and_smooth_shading_does_not() -> None:
    mesh = flatten(trimesh.Scene([trimesh.creation.icosphere(1)]), CONFIG)
    smooth, flat = (
        render(mesh, FRONT, CONFIG.model_copy(update={"shading": shading, "supersampling": 1, "size": 64}))
        for shading in ("smooth", "flat")
    )
    np.testing.assert_array_equal(smooth.depth, flat.depth)
    seen = flat.depth[0] > 0
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    assert (flat.normals[0][seen] @ faces.T).max(1).min() > 1 - 1e-5
    assert len(np.unique(flat.normals[0][seen].round(4), axis=0)) < 40
    assert len(np.unique(smooth.normals[0][seen].round(4), axis=0)) > 500


def test_uniform_light_leaves_colours_alone_and_soft_light_comes_from_above(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(3)
    ball.visual = trimesh.visual.ColorVisuals(ball, face_colors=np.tile((90, 120, 150, 255), (len(ball.faces), 1)))
    mesh = flatten(trimesh.Scene([ball]), CONFIG)
    uniform = render(mesh, FRONT, CONFIG).rgba[0]
    assert np.abs(uniform[uniform[..., 3] > 0][:, :3].astype(int) - (90, 120, 150)).max() <= 1
    soft = render(mesh, FRONT, CONFIG.model_copy(update={"ambient": 0.4})).rgba[0].astype(int)
    assert soft[8, 16, 0] > soft[24, 16, 0] + 10


def test_coverage_is_that_of_a_ray_caster_in_every_pixel() -> None:
    rng = np.random.default_rng(5)
    parts = [trimesh.creation.torus(0.7, 0.2), trimesh.creation.box((0.2, 1.5, 0.3)), trimesh.creation.icosphere(2)]
    for part in parts:
        part.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
    mesh = flatten(trimesh.Scene(parts), CONFIG)
    cameras = Camera.orbit(6, 20)
    config = CONFIG.model_copy(update={"size": 64, "supersampling": 2})
    alpha = render(mesh, cameras, config).rgba[..., 3]
    caster = trimesh.ray.ray_pyembree.RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))
    for view in range(6):
        origins, directions = (part.numpy() for part in cameras[view].to(torch.float64).rays(128))
        hit = caster.intersects_any(origins, directions).reshape(64, 2, 64, 2).mean((1, 3))
        np.testing.assert_array_equal(alpha[view], (255 * hit + 0.5).astype(np.uint8))


def digest(seed: int) -> str:
    """Of all passes of one object; runs in worker processes."""
    rng = np.random.default_rng(seed)
    mesh = flatten(trimesh.Scene([trimesh.creation.torus(0.7, rng.uniform(0.1, 0.3))]), CONFIG)
    views = render(mesh, Camera.orbit(3, 25), CONFIG)
    return hashlib.sha256(views.rgba.tobytes() + views.depth.tobytes() + views.normals.tobytes()).hexdigest()


def test_the_same_bytes_on_one_worker_and_on_two() -> None:
    here = [digest(seed) for seed in range(4)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(digest, range(4))) == here
    assert len(set(here)) == 4


def test_a_gpu_that_is_not_there_is_named() -> None:
    found, said = rasterise.cuda()
    config = CONFIG.model_copy(update={"device": "cuda"})
    if found:
        pytest.skip(said)
    with pytest.raises(InputError, match="device is cuda, but"):
        render(flatten(trimesh.Scene([trimesh.creation.box()]), CONFIG), FRONT, config)


@pytest.mark.parametrize("shading", ["smooth", "flat"])
def test_the_kernels_for_cuda_draw_what_numba_draws(tmp_path: Path, shading: str) -> None:
    """On warp's CPU device: opaque, half-transparent, masked and textured parts, three views over two batches."""
    pytest.importorskip("warp")
    from stages.rendering import gpu

    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (64, 32, 4), dtype=np.uint8))
    parts = []
    for number, mode in enumerate(("OPAQUE", "BLEND", "MASK")):
        ball = trimesh.creation.uv_sphere(0.5, count=(12, 12)).apply_translation((0.4 * number, 0.1, 0.3 * number))
        uv = rng.uniform(-1, 2, (len(ball.vertices), 2))
        ball.visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=picture, alphaMode=mode))
        parts.append(ball)
    mesh = flatten(trimesh.Scene(parts), CONFIG)
    config = CONFIG.model_copy(update={"shading": shading, "ambient": 0.5, "supersampling": 2})
    cameras = Camera.orbit(3, 20)
    before = gpu.BATCH
    try:
        gpu.BATCH = 2 * 64**2
        theirs = gpu.render_on("cpu", mesh, cameras, config)
    finally:
        gpu.BATCH = before
    ours = render(mesh, cameras, config)
    difference = np.abs(ours.rgba.astype(int) - theirs.rgba)
    assert (difference[..., 3] > 0).mean() < 1e-3
    assert (difference.max(-1) > 1).mean() < 2e-3
    assert (np.abs(ours.depth - theirs.depth) > 1e-5).mean() < 2e-3
    assert (np.abs(ours.normals - theirs.normals).max(-1) > 1e-4).mean() < 2e-3
