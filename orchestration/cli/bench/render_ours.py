"""Bench: the numba renderer."""

from __future__ import annotations

from models.camera import Camera
from orchestration.cli.bench.render_child import Job
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import render


def device() -> str:
    return "numba on one core"


def prepare(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Job:
    return Job(lambda: render(mesh, cameras, config), lambda: render(mesh, cameras, config).rgba)
