"""The renderer of `rasterise` as warp kernels, for CUDA: every triangle of every view at once, then every pixel.

The nearest triangle of a sample is an atomic maximum over (1 / depth, triangle): no order of threads can change it.
Needs the extra `gpu`; the same kernels run on warp's CPU device, which the tests use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from models.camera import Camera
from stages.rendering.config import RenderingConfig
from stages.rendering.kernels import cover, shade
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import DOOR, LIGHT, Views, projected

wp.config.log_level = wp.LOG_WARNING  # standard output belongs to commands
BATCH = 2**25
"""Samples drawn at once, 8 bytes each."""


def cuda_name() -> str | None:
    """The GPU that warp would use, None where there is none."""
    wp.init()
    return wp.get_device("cuda").name if wp.is_cuda_available() else None


def render_on(device: str, mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Views:
    """`rasterise.render` on a warp device, "cuda" or "cpu".

    Alpha is that of the numba renderer but where triangles lie in one plane, colours are within a rounding step.
    """
    wp.init()
    side = config.size * config.supersampling
    count, step = len(cameras.pose), max(1, BATCH // side**2)
    flat = np.zeros_like(mesh.normals) if config.shading == "flat" else mesh.normals
    scene = _Scene(mesh, flat, device)
    parts = [_draw(scene, cameras[first : first + step], config, side, device) for first in range(0, count, step)]
    return Views(*(np.concatenate([getattr(part, key) for part in parts]) for key in ("rgba", "depth", "normals")))


class _Scene:
    """A mesh on the device."""

    def __init__(self, mesh: Mesh, normals: np.ndarray, device: str) -> None:
        def there(values: np.ndarray, dtype: Any) -> Any:
            return wp.array(np.ascontiguousarray(values), dtype=dtype, device=device)

        self.host = mesh
        self.vertices, self.normals = there(mesh.vertices, wp.vec3), there(normals, wp.vec3)
        self.uv, self.colours = there(mesh.uv, wp.vec2), there(mesh.colours, wp.vec4)
        self.faces = there(mesh.faces.astype(np.int32), wp.vec3i)
        self.material = there(mesh.material.astype(np.int32), wp.int32)
        self.cutoff = there(mesh.cutoff, wp.float32)
        self.pyramids = there(mesh.pyramids.astype(np.int32), wp.vec2i)
        self.levels = there(mesh.levels.astype(np.int32), wp.vec3i)
        self.texels = there(mesh.texels, wp.uint8)
        self.door = there(DOOR.astype(np.float32), wp.float32)


def _draw(scene: _Scene, cameras: Camera, config: RenderingConfig, side: int, device: str) -> Views:
    count, size = len(cameras.pose), config.size
    screens, eyes = zip(*(projected(scene.host, camera, side) for camera in cameras), strict=True)
    screen = wp.array(np.stack(screens), dtype=wp.vec3, device=device)
    eye = wp.array(np.stack(eyes), dtype=wp.vec3, device=device)
    nearest = wp.zeros((count, side, side), dtype=wp.uint64, device=device)
    rgba = wp.zeros((count, size, size, 4), dtype=wp.uint8, device=device)
    depth = wp.zeros((count, size, size), dtype=wp.float32, device=device)
    normals = wp.zeros((count, size, size), dtype=wp.vec3, device=device)
    look = [
        scene.faces, scene.material, scene.cutoff, scene.colours, scene.uv, scene.pyramids, scene.levels, scene.texels,
    ]  # fmt: skip
    wp.launch(
        cover, dim=(count, len(scene.host.faces)), inputs=[screen, *look, scene.door, side, nearest], device=device
    )
    wp.launch(
        shade,
        dim=(count, size, size),
        inputs=[screen, *look, eye, scene.vertices, scene.normals, wp.vec3(*LIGHT.tolist()), config.ambient,
                config.supersampling, nearest, rgba, depth, normals],
        device=device,
    )  # fmt: skip
    return Views(rgba.numpy(), depth.numpy(), normals.numpy())
