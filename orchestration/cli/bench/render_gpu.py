"""Bench: the warp renderer on a CUDA device."""

from __future__ import annotations

from models.camera import Camera
from orchestration.cli.bench.render_child import Job
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import cuda


def device() -> str:
    return cuda()[1]


def prepare(mesh: Mesh, cameras: Camera, config: RenderingConfig) -> Job:
    from stages.rendering.gpu import render_on

    found, said = cuda()
    if not found:
        raise RuntimeError(said)
    return Job(lambda: render_on("cuda", mesh, cameras, config), lambda: render_on("cuda", mesh, cameras, config).rgba)
