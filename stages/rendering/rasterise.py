"""A z-buffer renderer in numba: pip alone, no display, no GL library, the same bytes in every process.

Two-sided (93 % of collected meshes are not watertight), perspective-correct, mipmapped; transparency by a fixed
screen-door over the samples of a pixel, so that no triangle has to be sorted.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float32, UInt8

from models.camera import Camera
from stages.errors import InputError
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh

LIGHT = np.array([0.3, -0.5, 0.81], dtype=np.float32)  # soft, from above; fixed in the world
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], dtype=np.float32)
DOOR = (BAYER + 0.5) / 16


@dataclass(frozen=True)
class Views:
    """Rendered views: un-premultiplied colour with coverage alpha, depth along the viewing axis (0 where nothing
    is), world normals turned to the camera (0 where nothing is)."""

    rgba: UInt8[np.ndarray, "n h w 4"]
    depth: Float32[np.ndarray, "n h w"]
    normals: Float32[np.ndarray, "n h w 3"]


def render(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Views:
    """Render one mesh from a flat batch of cameras at `config.size` pixels a side, on the device of `config`."""
    if on_cuda(config):
        from stages.rendering.gpu import render_on

        return render_on("cuda", mesh, cameras, config)
    count, side = cameras.pose.shape[0], config.size * config.supersampling
    rgba = np.zeros((count, config.size, config.size, 4), dtype=np.uint8)
    depth = np.zeros((count, config.size, config.size), dtype=np.float32)
    normals = np.zeros((count, config.size, config.size, 3), dtype=np.float32)
    normals_of = np.zeros_like(mesh.normals) if config.shading == "flat" else mesh.normals
    for view in range(count):
        screen, eye = projected(mesh, cameras[view], side)
        face, weights = _visible(
            screen,
            mesh.faces,
            mesh.material,
            mesh.cutoff,
            mesh.colours,
            mesh.uv,
            mesh.pyramids,
            mesh.levels,
            mesh.texels,
            side,
        )
        _shade(
            face, weights, screen, eye, mesh.vertices, normals_of, mesh.faces, mesh.material, mesh.colours, mesh.uv,
            mesh.pyramids, mesh.levels, mesh.texels, LIGHT, np.float32(config.ambient), config.supersampling,
            rgba[view], depth[view], normals[view],
        )  # fmt: skip
    return Views(rgba, depth, normals)


def projected(mesh: Mesh, camera: Camera, side: int) -> tuple[Float32[np.ndarray, "v 3"], Float32[np.ndarray, 3]]:
    """Vertices as (x, y, 1 / depth) with x right and y down in samples of one camera's image, and where its eye is."""
    pose, intrinsics = camera.pose.numpy().astype(np.float32), camera.intrinsics.numpy().astype(np.float32)
    eye = pose[:3, 3].copy()
    local = (mesh.vertices - eye) @ pose[:3, :3]
    screen = np.empty_like(local)
    screen[:, 2] = 1 / np.maximum(-local[:, 2], 1e-6)
    screen[:, 0] = (intrinsics[0] * local[:, 0] * screen[:, 2] + intrinsics[2]) * side
    screen[:, 1] = (intrinsics[3] - intrinsics[1] * local[:, 1] * screen[:, 2]) * side
    return screen, eye


def on_cuda(config: RenderingConfig) -> bool:
    """Whether `render` uses a GPU. Raises InputError when one is asked for and none can be used."""
    if config.device == "cpu":
        return False
    found, said = cuda()
    if config.device == "cuda" and not found:
        raise InputError(f"rendering.device is cuda, but {said}; set it to cpu or auto")
    return found


@functools.cache
def cuda() -> tuple[bool, str]:
    """Whether warp can use a GPU here, and a line that says what is there; logged once a process."""
    try:
        ctypes.CDLL("libcuda.so.1")  # warp complains on standard error where there is no driver
        from stages.rendering.gpu import cuda_name
    except OSError:
        found, said = False, "no CUDA driver here"
    except ImportError:
        found, said = False, "warp-lang is not installed (pip install 'orbitforge[gpu]')"
    else:
        name = cuda_name()
        found, said = name is not None, f"{name} by warp" if name else "warp finds no CUDA device"
    logging.getLogger(__name__).log(logging.WARNING if found else logging.INFO, "rendering: %s", said)
    return found, said


@numba.njit(cache=True)
def _texel(levels, texels, level, u, v):
    """Bilinear look-up of a repeating texture, RGBA in 0..255."""
    first, width, height = levels[level, 0], levels[level, 1], levels[level, 2]
    x, y = (u - np.floor(u)) * width - 0.5, (v - np.floor(v)) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    left, bottom = x0 if 0 <= x0 < width else width - 1, y0 if 0 <= y0 < height else height - 1
    right, top = x0 + 1 if 0 <= x0 + 1 < width else 0, y0 + 1 if 0 <= y0 + 1 < height else 0
    w00, w10 = np.float32((1 - fx) * (1 - fy)), np.float32(fx * (1 - fy))
    w01, w11 = np.float32((1 - fx) * fy), np.float32(fx * fy)
    i00, i10 = first + bottom * width + left, first + bottom * width + right
    i01, i11 = first + top * width + left, first + top * width + right
    return (
        w00 * texels[i00, 0] + w10 * texels[i10, 0] + w01 * texels[i01, 0] + w11 * texels[i11, 0],
        w00 * texels[i00, 1] + w10 * texels[i10, 1] + w01 * texels[i01, 1] + w11 * texels[i11, 1],
        w00 * texels[i00, 2] + w10 * texels[i10, 2] + w01 * texels[i01, 2] + w11 * texels[i11, 2],
        w00 * texels[i00, 3] + w10 * texels[i10, 3] + w01 * texels[i01, 3] + w11 * texels[i11, 3],
    )


@numba.njit(cache=True)
def _mip_level(face, screen, faces, uv, first, count, levels):
    """The level at which one texel covers about one sample of this triangle."""
    a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
    pixels = abs(
        (screen[b, 0] - screen[a, 0]) * (screen[c, 1] - screen[a, 1])
        - (screen[c, 0] - screen[a, 0]) * (screen[b, 1] - screen[a, 1])
    )
    area = abs((uv[b, 0] - uv[a, 0]) * (uv[c, 1] - uv[a, 1]) - (uv[c, 0] - uv[a, 0]) * (uv[b, 1] - uv[a, 1]))
    area *= levels[first, 1] * levels[first, 2]
    if count == 1 or area <= pixels:
        return first
    return first + min(count - 1, int(0.5 * np.log2(area / max(pixels, 1e-6)) + 0.5))


@numba.njit(cache=True)
def _visible(screen, faces, material, cutoff, colours, uv, pyramids, levels, texels, side):
    """The nearest face of every sample (-1: none) and the perspective-correct weights of its corners."""
    nearest = np.zeros((side, side), dtype=np.float32)  # holds 1 / depth
    face = np.full((side, side), -1, dtype=np.int32)
    weights = np.empty((side, side, 3), dtype=np.float32)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = (
            screen[a, 0],
            screen[a, 1],
            screen[b, 0],
            screen[b, 1],
            screen[c, 0],
            screen[c, 1],
        )
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0 or max(screen[a, 2], screen[b, 2], screen[c, 2]) > 1e3:  # no area, or behind the eye
            continue
        x0, x1 = (
            max(0, int(np.ceil(min(ax, bx, cx) - 0.5))),
            min(side - 1, int(np.floor(max(ax, bx, cx) - 0.5))),
        )
        y0, y1 = (
            max(0, int(np.ceil(min(ay, by, cy) - 0.5))),
            min(side - 1, int(np.floor(max(ay, by, cy) - 0.5))),
        )
        cut, turn = cutoff[material[f]], np.sign(area)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                wb = (px - ax) * (cy - ay) - (cx - ax) * (py - ay)
                wc = (bx - ax) * (py - ay) - (px - ax) * (by - ay)
                if wb * turn < 0 or wc * turn < 0:  # most samples of a box leave here, before any division
                    continue
                wb, wc = wb / area, wc / area
                wa = 1 - wb - wc
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                inverse = wa * screen[a, 2] + wb * screen[b, 2] + wc * screen[c, 2]
                if inverse <= nearest[y, x]:
                    continue
                wa, wb, wc = (
                    wa * screen[a, 2] / inverse,
                    wb * screen[b, 2] / inverse,
                    wc * screen[c, 2] / inverse,
                )
                if cut <= 1:
                    first, count = pyramids[material[f], 0], pyramids[material[f], 1]
                    level = _mip_level(f, screen, faces, uv, first, count, levels)
                    u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                    v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                    alpha = _texel(levels, texels, level, u, v)[3] / 255
                    alpha *= wa * colours[a, 3] + wb * colours[b, 3] + wc * colours[c, 3]
                    if alpha < (cut if cut > 0 else DOOR[y % 4, x % 4]):
                        continue
                nearest[y, x], face[y, x] = inverse, f
                weights[y, x, 0], weights[y, x, 1], weights[y, x, 2] = wa, wb, wc
    return face, weights


@numba.njit(cache=True)
def _shade(
    face, weights, screen, eye, vertices, normals, faces, material, colours, uv, pyramids, levels, texels,
    light, ambient, supersampling, rgba, depth, normal_map,
):  # fmt: skip
    """Colour the visible samples and average them into pixels."""
    size = rgba.shape[0]
    nothing = np.float32(0)
    last = level = np.int64(-1)
    a = b = c = np.int64(0)
    for row in range(size):
        for column in range(size):
            red = green = blue = nothing
            dx = dy = dz = distance = nothing
            covered = 0
            for y in range(row * supersampling, (row + 1) * supersampling):
                for x in range(column * supersampling, (column + 1) * supersampling):
                    f = np.int64(face[y, x])
                    if f < 0:
                        continue
                    if f != last:  # neighbours mostly show the same face
                        last = f
                        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                        first, count = pyramids[material[f], 0], pyramids[material[f], 1]
                        level = _mip_level(f, screen, faces, uv, first, count, levels)
                    wa, wb, wc = weights[y, x, 0], weights[y, x, 1], weights[y, x, 2]
                    nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                    ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                    nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                    length = np.sqrt(nx * nx + ny * ny + nz * nz)
                    if length < 1e-6:  # no usable vertex normals, or flat shading: the face's own
                        px, py, pz = (
                            vertices[b, 0] - vertices[a, 0],
                            vertices[b, 1] - vertices[a, 1],
                            vertices[b, 2] - vertices[a, 2],
                        )
                        qx, qy, qz = (
                            vertices[c, 0] - vertices[a, 0],
                            vertices[c, 1] - vertices[a, 1],
                            vertices[c, 2] - vertices[a, 2],
                        )
                        nx, ny, nz = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
                        length = max(np.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-12))
                    nx, ny, nz = nx / length, ny / length, nz / length
                    toward = nx * (eye[0] - (wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0]))
                    toward += ny * (eye[1] - (wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1]))
                    toward += nz * (eye[2] - (wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]))
                    if toward < 0:
                        nx, ny, nz = -nx, -ny, -nz
                    lit = ambient + (1 - ambient) * (0.5 + 0.5 * (nx * light[0] + ny * light[1] + nz * light[2]))
                    u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                    v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                    texel = _texel(levels, texels, level, u, v)
                    tint = wa * colours[a, 0] + wb * colours[b, 0] + wc * colours[c, 0]
                    red = np.float32(red + tint * texel[0] * lit)
                    tint = wa * colours[a, 1] + wb * colours[b, 1] + wc * colours[c, 1]
                    green = np.float32(green + tint * texel[1] * lit)
                    tint = wa * colours[a, 2] + wb * colours[b, 2] + wc * colours[c, 2]
                    blue = np.float32(blue + tint * texel[2] * lit)
                    dx, dy, dz = dx + nx, dy + ny, dz + nz
                    distance += wa / screen[a, 2] + wb / screen[b, 2] + wc / screen[c, 2]
                    covered += 1
            if covered == 0:
                continue
            rgba[row, column, 0] = np.uint8(min(255.0, red / covered + 0.5))
            rgba[row, column, 1] = np.uint8(min(255.0, green / covered + 0.5))
            rgba[row, column, 2] = np.uint8(min(255.0, blue / covered + 0.5))
            rgba[row, column, 3] = np.uint8(255 * covered / supersampling**2 + 0.5)
            normal_map[row, column, 0] = dx / covered
            normal_map[row, column, 1] = dy / covered
            normal_map[row, column, 2] = dz / covered
            depth[row, column] = distance / covered
