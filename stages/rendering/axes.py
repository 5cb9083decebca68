"""A picture of a preset's cameras: axes, the object's sphere, and what each camera sees of its plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.camera import Camera
from stages.rendering.cameras import draw_cameras
from stages.rendering.config import RenderingConfig
from stages.seeds import numpy_generator

REACH = 0.35
"""Length of the drawn pyramids."""


def draw_axes(config: RenderingConfig, path: Path, *, seed: int = 0) -> Camera:
    """Draw one draw of the rig into a PNG and return its cameras.

    Red, green and blue are x, y and z of the world, and right, up and back of each camera (it looks down -z).
    """
    from matplotlib.figure import Figure  # a second to import

    cameras, _ = draw_cameras(config, numpy_generator(seed, "axes"))
    figure = Figure(figsize=(7, 6), dpi=110)
    axes: Any = figure.add_subplot(projection="3d")
    _sphere(axes, config.fit)
    for direction, colour, name in zip(np.eye(3), "rgb", "xyz", strict=True):
        axes.plot(*np.stack((0 * direction, 1.2 * direction), 1), color=colour)
        axes.text(*(1.3 * direction), name, color=colour)
    for number, (pose, intrinsics) in enumerate(
        zip(cameras.pose.double().numpy(), cameras.intrinsics.double().numpy(), strict=True)
    ):
        _camera(axes, pose, intrinsics)
        axes.text(*(pose[:3, 3] * 1.08), str(number), size=7)
    axes.set(xlabel="x", ylabel="y", zlabel="z", title=f"rig {config.rig}: {len(cameras.pose)} cameras")
    axes.set_aspect("equal")
    figure.savefig(path)
    return cameras


def _sphere(axes: Any, radius: float) -> None:
    turn, height = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    points = np.stack((np.cos(turn) * np.sin(height), np.sin(turn) * np.sin(height), np.cos(height)))
    axes.plot_wireframe(*(radius * points), color="0.8", linewidth=0.5)


def _camera(axes: Any, pose: np.ndarray, intrinsics: np.ndarray) -> None:
    """The pyramid between the eye and the corners of the picture, and the camera's own axes."""
    fx, fy, cx, cy = intrinsics
    corners = np.array([[(u - cx) / fx, (cy - v) / fy, -1] for u, v in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))])
    eye, rim = pose[:3, 3], pose[:3, 3] + REACH * corners @ pose[:3, :3].T
    plot = axes.plot
    plot(*rim.T, color="0.3", linewidth=0.7)
    for corner in rim[:4]:
        plot(*np.stack((eye, corner), 1), color="0.3", linewidth=0.4)
    for direction, colour in zip(pose[:3, :3].T, "rgb", strict=True):
        plot(*np.stack((eye, eye + 0.2 * direction), 1), color=colour, linewidth=1)
