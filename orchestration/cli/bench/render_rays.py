"""Bench: coverage by embree, one ray through the middle of every sample."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import UInt8
from trimesh.ray.ray_pyembree import RayMeshIntersector

from models.camera import Camera
from orchestration.cli.bench.render_child import Job
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh


def device() -> str:
    return "embree on one core"


def prepare(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Job:
    caster = RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))
    return Job(None, lambda: _coverage(caster, cameras, config))


def _coverage(caster: RayMeshIntersector, cameras: Camera, config: RenderingConfig) -> UInt8[np.ndarray, "n h w 4"]:
    size, samples = config.size, config.supersampling
    rgba = np.zeros((len(cameras.pose), size, size, 4), dtype=np.uint8)
    for view in range(len(cameras.pose)):
        origins, directions = (part.numpy() for part in cameras[view].to(torch.float64).rays(size * samples))
        hit = caster.intersects_any(origins, directions).reshape(size, samples, size, samples)
        rgba[view, ..., 3] = (255 * hit.mean((1, 3)) + 0.5).astype(np.uint8)
    return rgba
