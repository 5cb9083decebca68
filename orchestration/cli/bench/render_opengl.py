"""Bench: the same look drawn by OpenGL, by moderngl on EGL; timed with multisampling, compared by 2x2 samples."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

import moderngl  # pyright: ignore[reportMissingImports]  # an extra
import numpy as np
from jaxtyping import Float, UInt8

from models.camera import Camera
from orchestration.cli.bench.render_child import Job
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import LIGHT

VERTEX = """
#version 330
uniform mat4 view; uniform mat4 projection;
in vec3 position; in vec3 normal; in vec2 uv; in vec4 colour;
out vec3 world_position; out vec3 world_normal; out vec2 place; out vec4 tint;
void main() {
    world_position = position; world_normal = normal; place = uv; tint = colour;
    gl_Position = projection * view * vec4(position, 1);
}
"""
FRAGMENT = """
#version 330
uniform vec3 eye; uniform vec3 light; uniform float ambient; uniform sampler2D texels;
in vec3 world_position; in vec3 world_normal; in vec2 place; in vec4 tint;
out vec4 shown;
void main() {
    vec3 normal = normalize(world_normal);
    if (dot(normal, eye - world_position) < 0) normal = -normal;
    float lit = ambient + (1 - ambient) * (0.5 + 0.5 * dot(normal, light));
    shown = vec4(tint.rgb * texture(texels, place).rgb * lit, 1);
}
"""


@functools.cache
def context() -> moderngl.Context:
    settings: Any = {"backend": "egl"}
    return moderngl.create_context(standalone=True, **settings)


def device() -> str:
    return f"{context().info['GL_RENDERER']}, moderngl {version('moderngl')}"


def prepare(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Job:
    scene = _Scene(mesh, cameras, config)
    size, samples = config.size, config.supersampling
    many = _framebuffer(size, samples**2)
    one, large = _framebuffer(size, 0), _framebuffer(size * samples, 0)

    def work() -> list[bytes]:
        images = []
        for view in range(len(cameras.pose)):
            scene.draw(view, many)
            context().copy_framebuffer(one, many)
            images.append(one.read(components=4))
        return images

    def images() -> UInt8[np.ndarray, "n h w 4"]:
        out = np.zeros((len(cameras.pose), size, size, 4), dtype=np.uint8)
        for view in range(len(cameras.pose)):
            scene.draw(view, large)
            shown = np.frombuffer(large.read(components=4), dtype=np.uint8).reshape(size * samples, size * samples, 4)
            shown = shown[::-1].reshape(size, samples, size, samples, 4).astype(np.float64).mean((1, 3))
            covered = np.maximum(shown[..., 3:], 1) / 255
            out[view, ..., :3] = np.where(shown[..., 3:] > 0, shown[..., :3] / covered, 0).clip(0, 255) + 0.5
            out[view, ..., 3] = shown[..., 3] + 0.5
        return out

    return Job(work, images)


def _framebuffer(size: int, samples: int) -> moderngl.Framebuffer:
    gl = context()
    colour = gl.renderbuffer((size, size), 4, samples=samples)
    return gl.framebuffer([colour], gl.depth_renderbuffer((size, size), samples=samples))


class _Scene:
    def __init__(self, mesh: Mesh, cameras: Camera, config: RenderingConfig) -> None:
        gl = context()
        self._program = gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self._set("light", LIGHT.tobytes())
        self._set("ambient", np.float32(config.ambient).tobytes())
        self._cameras = cameras
        parts = [np.hstack((mesh.vertices, mesh.normals, mesh.uv, mesh.colours)).astype("f4")]
        buffer = gl.buffer(parts[0].tobytes())
        self._parts: list[tuple[moderngl.VertexArray, moderngl.Texture]] = []
        for material in range(len(mesh.pyramids)):
            faces = mesh.faces[mesh.material == material].astype("i4")
            first, width, height = (int(k) for k in mesh.levels[mesh.pyramids[material, 0]])
            texels = np.ascontiguousarray(mesh.texels[first : first + width * height])
            texture = gl.texture((width, height), 4, texels.tobytes())
            texture.build_mipmaps()
            texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
            layout: Any = [(buffer, "3f 3f 2f 4f", "position", "normal", "uv", "colour")]
            self._parts.append((gl.vertex_array(self._program, layout, gl.buffer(faces.tobytes())), texture))

    def _set(self, name: str, value: bytes) -> None:
        if name in self._program:  # a compiler drops what a shader does not need
            uniform: Any = self._program[name]
            uniform.write(value)

    def draw(self, view: int, target: moderngl.Framebuffer) -> None:
        target.use()
        target.clear(0, 0, 0, 0, depth=1)
        context().enable_only(moderngl.DEPTH_TEST)
        pose = self._cameras.pose[view].numpy().astype(np.float64)
        self._set("view", np.linalg.inv(pose).T.astype("f4").tobytes())
        self._set("projection", _projection(self._cameras.intrinsics[view].numpy()).T.astype("f4").tobytes())
        self._set("eye", pose[:3, 3].astype("f4").tobytes())
        for array, texture in self._parts:
            texture.use(0)
            array.render()


def _projection(intrinsics: Float[np.ndarray, 4], near: float = 0.1, far: float = 10.0) -> Float[np.ndarray, "4 4"]:
    fx, fy, cx, cy = intrinsics
    return np.array(
        [
            [2 * fx, 0, 1 - 2 * cx, 0],
            [0, 2 * fy, 2 * cy - 1, 0],
            [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
            [0, 0, -1, 0],
        ]
    )
