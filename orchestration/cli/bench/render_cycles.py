"""Bench: the same objects in Blender Cycles, 16 samples, one thread, from the bpy wheel (GPL: only ever in a child)."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from models.camera import Camera
from orchestration.cli.bench.render_child import Job
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh

SAMPLES = 16
bpy: Any = importlib.import_module("bpy")


def device() -> str:
    return f"Blender {bpy.app.version_string}, Cycles on one thread"


def prepare(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Job:
    drawn = _object(mesh)
    scene = bpy.context.scene
    eye = bpy.data.objects.new("eye", bpy.data.cameras.new("eye"))
    scene.collection.objects.link(eye)

    def work() -> None:
        for other in scene.objects:
            other.hide_render = other.type == "MESH" and other is not drawn and other.name != drawn.name
        _settings(scene, config, eye, float(cameras.intrinsics[0, 0]))
        for pose in cameras.pose.numpy():
            eye.matrix_world = pose.T.tolist()  # Blender's cameras look down -z, too; rows are columns there
            bpy.ops.render.render(write_still=False)

    def images() -> UInt8[np.ndarray, "n h w 4"]:
        return np.zeros((len(cameras.pose), config.size, config.size, 4), dtype=np.uint8)  # another look: not compared

    return Job(work, images)


def _settings(scene: Any, config: RenderingConfig, eye: Any, focal: float) -> None:
    scene.camera = eye
    eye.data.sensor_width, eye.data.lens = 1.0, focal
    eye.data.clip_start = 0.01
    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    render.resolution_x = render.resolution_y = config.size
    render.resolution_percentage = 100
    render.film_transparent, render.use_persistent_data = True, True
    render.threads_mode, render.threads = "FIXED", 1
    cycles.device, cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = "CPU", SAMPLES, False, False
    scene.world = scene.world or bpy.data.worlds.new("light")


def _object(mesh: Mesh) -> Any:
    for old in [thing for thing in bpy.data.objects if thing.name in ("Cube", "Light")]:
        bpy.data.objects.remove(old)
    data = bpy.data.meshes.new("mesh")
    data.from_pydata(mesh.vertices.tolist(), [], mesh.faces.tolist())
    layer = data.uv_layers.new()
    layer.data.foreach_set("uv", mesh.uv[mesh.faces.ravel()].ravel())
    for material in range(len(mesh.pyramids)):
        data.materials.append(_material(mesh, material))
    data.polygons.foreach_set("material_index", mesh.material.astype(np.int32))
    data.update()
    drawn = bpy.data.objects.new("object", data)
    bpy.context.scene.collection.objects.link(drawn)
    return drawn


def _material(mesh: Mesh, number: int) -> Any:
    material = bpy.data.materials.new("material")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    surface = nodes["Principled BSDF"]
    first, width, height = (int(k) for k in mesh.levels[mesh.pyramids[number, 0]])
    texels = mesh.texels[first : first + width * height].reshape(height, width, 4)
    if width * height == 1:
        corner = mesh.faces[np.flatnonzero(mesh.material == number)[0], 0]
        surface.inputs["Base Color"].default_value = mesh.colours[corner].tolist()
        return material
    picture = nodes.new("ShaderNodeTexImage")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texture.png"
        Image.fromarray(np.ascontiguousarray(texels[::-1])).save(file)
        picture.image = bpy.data.images.load(str(file))
        picture.image.pack()
    links.new(picture.outputs["Color"], surface.inputs["Base Color"])
    return material
