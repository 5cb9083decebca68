"""Bends pictures as generated frames are bent: smoothly, each by itself."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage


def bent(
    view: Float[np.ndarray, "3 h w"], strength: tuple[float, float], rng: np.random.Generator
) -> Float[np.ndarray, "3 h w"]:
    """The picture under a smooth random flow, its standard deviation (in image sizes) drawn from the range `strength`;
    white flows in."""
    size = view.shape[-1]
    flow = ndimage.gaussian_filter(rng.normal(size=(2, size, size)), (0, size / 10, size / 10), mode="nearest")
    flow *= rng.uniform(*strength) * size / flow.std()
    where = np.mgrid[:size, :size] + flow
    return np.stack([ndimage.map_coordinates(channel, where, order=1, cval=1.0) for channel in view])
