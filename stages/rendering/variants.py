"""New versions of an object: stretched and recoloured, so that few objects teach shape rather than themselves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8


def draw_scale(rng: np.random.Generator, strength: float) -> Float32[np.ndarray, 3]:
    """A factor for each axis, between exp(-strength) and exp(strength)."""
    return np.exp(rng.uniform(-strength, strength, 3)).astype(np.float32)


def colour_matrix(rng: np.random.Generator, strength: float) -> Float32[np.ndarray, "3 3"]:
    """A random linear recolouring: hue turned about the grey axis, saturation and brightness changed, a slight tint.

    Linear maps commute with shading, so all views of an object stay one object. Strength 0 keeps colours, 1 turns
    hues all the way round.
    """
    angle = strength * rng.uniform(-np.pi, np.pi)
    saturation = np.exp(strength * rng.uniform(-0.5, 0.5))
    gains = np.exp(strength * (rng.uniform(-0.3, 0.2) + rng.uniform(-0.15, 0.15, 3)))
    axis = np.full(3, 1 / np.sqrt(3))
    grey = np.outer(axis, axis)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = grey + saturation * (np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * cross)
    return (gains[:, None] * turn).astype(np.float32)


def recoloured(rgba: UInt8[np.ndarray, "v h w 4"], matrix: Float32[np.ndarray, "3 3"]) -> UInt8[np.ndarray, "v h w 4"]:
    """The views with `matrix` applied to their colours; coverage stays."""
    rgb = rgba[..., :3].astype(np.float32) @ matrix.T
    return np.concatenate((np.clip(rgb + 0.5, 0, 255).astype(np.uint8), rgba[..., 3:]), -1)
