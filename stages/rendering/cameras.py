"""Where the cameras of one object stand: the papers' rigs, and lists of one's own."""

from __future__ import annotations

import numpy as np
import torch

from models.camera import Camera
from stages.rendering.config import RenderingConfig


def draw_cameras(config: RenderingConfig, rng: np.random.Generator) -> tuple[Camera, float | None]:
    """Cameras [views] that look at the origin, and the elevation that they share (degrees), None if they do not.

    - `orbit`: evenly spaced from +x on, at one elevation drawn from `config.elevation` (VFusion3D).
    - `elevations`: one above the other at +x, where the first view of an orbit stands (Flex3D's -18, 6, 18, 30).
    - `sphere`: the first frontal and level, the others in random directions between `config.heights`, at distances
      from `config.radii` (OpenLRM's recipe).
    - `free`: the azimuths, elevations and radii of `config.free`.
    """
    if config.rig == "orbit":
        elevation = rng.uniform(*config.elevation)
        return Camera.orbit(config.views, elevation, config.radius, config.focal), elevation
    if config.rig == "sphere":
        positions = _sphere(config, rng)
    else:
        places = (
            [(0.0, elevation, config.radius) for elevation in config.elevations]
            if config.rig == "elevations"
            else config.free
        )
        positions = np.stack([_position(*place) for place in places])
    cameras = Camera.look_at(torch.from_numpy(positions), config.focal)
    return Camera(cameras.pose.float(), cameras.intrinsics.float()), None


def elevations(cameras: Camera) -> np.ndarray:
    """Degrees above the horizon of cameras [views] that look at the origin."""
    position = cameras.pose[..., :3, 3].double().numpy()
    return np.degrees(np.arcsin(position[..., 2] / np.linalg.norm(position, axis=-1)))


def _sphere(config: RenderingConfig, rng: np.random.Generator) -> np.ndarray:
    """Positions [views, 3]."""
    low, high = config.heights
    found = [np.array([rng.uniform(*config.radii), 0.0, 0.0])]
    while len(found) < config.views:
        direction = rng.standard_normal(3)
        position = direction / np.linalg.norm(direction) * rng.uniform(*config.radii)
        if low < position[2] < high:
            found.append(position)
    return np.stack(found)


def _position(azimuth: float, elevation: float, radius: float) -> np.ndarray:
    turn, height = np.radians(azimuth), np.radians(elevation)
    return radius * np.array([np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)])
