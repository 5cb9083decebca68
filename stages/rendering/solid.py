"""Which space an object fills, for any mesh: few in the wild are watertight, so inside and outside are not asked for.

Space is solid where no camera around can see it empty, and where the surface itself passes.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from models.camera import Camera
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import render

CAMERAS, SIDE = 32, 96
"""Cameras on a sphere, and the pixels of their depth images: thin legs at the size of the shipped models stay whole."""
SURFACE_POINTS = 60_000


def solid(mesh: Mesh, rng: np.random.Generator, grid: int, half: float) -> UInt8[np.ndarray, "g g g"]:
    """1 where the cells of the cube of half side `half` (x, y, z order) are solid, 0 where they are empty."""
    config = RenderingConfig.model_validate({"size": SIDE, "supersampling": 1})
    cameras = Camera.look_at(torch.from_numpy(config.radius * _directions(CAMERAS)).float(), config.focal)
    depth = render(mesh, cameras, config).depth
    cells = _carved(depth, cameras.pose.numpy(), np.float32(config.focal), grid, np.float32(half))
    place = ((surface_points(mesh, rng, SURFACE_POINTS) / half + 1) / 2 * grid).astype(np.int64).clip(0, grid - 1)
    cells[place[:, 0], place[:, 1], place[:, 2]] = 1
    return cells


def surface_points(mesh: Mesh, rng: np.random.Generator, count: int) -> Float[np.ndarray, "n 3"]:
    """Points spread evenly over the surface."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(a, b), axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return corners[face, 0] + u * a[face] + v * b[face]


def _directions(count: int) -> Float[np.ndarray, "n 3"]:
    """Unit vectors spread over the sphere by a golden spiral."""
    step = np.arange(count) + 0.5
    tilt, turn = np.arccos(1 - 2 * step / count), math.pi * (1 + math.sqrt(5)) * step
    return np.stack((np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)), -1)


@numba.njit(cache=True)
def _carved(
    depth: Float32[np.ndarray, "n s s"], poses: Float32[np.ndarray, "n 4 4"], focal: Any, grid: int, half: Any
) -> UInt8[np.ndarray, "g g g"]:
    """0 for every cell that some camera sees something behind, or nothing at all."""
    side = depth.shape[1]
    cells = np.ones((grid, grid, grid), dtype=np.uint8)
    for x in range(grid):
        for y in range(grid):
            for z in range(grid):
                for camera in range(len(depth)):
                    pose = poses[camera]
                    dx = ((x + 0.5) / grid * 2 - 1) * half - pose[0, 3]
                    dy = ((y + 0.5) / grid * 2 - 1) * half - pose[1, 3]
                    dz = ((z + 0.5) / grid * 2 - 1) * half - pose[2, 3]
                    away = -(pose[0, 2] * dx + pose[1, 2] * dy + pose[2, 2] * dz)
                    right = pose[0, 0] * dx + pose[1, 0] * dy + pose[2, 0] * dz
                    up = pose[0, 1] * dx + pose[1, 1] * dy + pose[2, 1] * dz
                    column = int((focal * right / away + 0.5) * side)
                    row = int((0.5 - focal * up / away) * side)
                    if column < 0 or column >= side or row < 0 or row >= side:
                        continue
                    seen = depth[camera, row, column]
                    if seen <= 0 or seen > away + half / grid:
                        cells[x, y, z] = 0
                        break
    return cells
