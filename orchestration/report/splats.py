"""Gaussians as the page's viewer reads them: quantised arrays in base64."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError

MOST = 16_000
"""Gaussians on the page, 17 bytes each."""
SPAN = 12.0
"""Of the logarithms of scales: what is smaller than the largest by more than that is held."""


def packed(path: Path, most: int = MOST) -> dict[str, Any]:
    """What splats.js draws, JSON of about 23 bytes a Gaussian, in the file's axes.

    `position` are uint16 x, y, z in steps of the longest side of their box, which is `unit` long; `middle` and `radius`
    are of a sphere around most of them, from the box's corner. `scale` are uint8 between the logarithms `scales`,
    `rotation` int8 (w, x, y, z), `colour` uint8 RGB and opacity; all little-endian in base64. Those that are faint, and
    of more than `most` those that cover least, are left out: `left_out` says how many. Raises InputError for a file
    that holds no splats, or none that can be seen.
    """
    from stages.reconstruction.splats import FAINT, read_splats  # torch, which the page needs for nothing else

    splats = read_splats(path, up="z")  # as they lie in the file
    covers = splats.opacities * splats.scales.sort(-1).values[:, 1:].prod(-1)
    chosen = (splats.opacities >= FAINT).nonzero()[:, 0]
    chosen = chosen[covers[chosen].argsort(descending=True, stable=True)[:most]].sort().values
    if not len(chosen):
        raise InputError(f"{path.name} holds no Gaussian that can be seen")
    shown = splats.kept(chosen)
    positions = shown.positions.double().numpy()
    low, unit = positions.min(0), float(np.ptp(positions, axis=0).max()) or 1.0
    ends = np.quantile(positions, (0.01, 0.99), axis=0)
    middle = ends.mean(0)
    logs = shown.scales.double().clamp(min=1e-12).log().numpy()
    largest, least = float(logs.max()), max(float(logs.min()), float(logs.max()) - SPAN)
    far = np.linalg.norm(positions - middle, axis=1) + 2 * np.exp(logs.max(1))
    scales = (logs - least) / max(largest - least, 1e-9)
    looks = np.concatenate((shown.colours.numpy(), shown.opacities.numpy()[:, None]), -1)
    return {
        "unit": round(unit, 6),
        "middle": [round(float(value), 5) for value in middle - low],
        "radius": round(float(np.quantile(far, 0.98)), 5),
        "scales": [round(least, 5), round(largest, 5)],
        "position": _base64(np.rint((positions - low) / unit * 0xFFFF).astype("<u2")),
        "scale": _base64(np.rint(scales.clip(0, 1) * 255).astype(np.uint8)),
        "rotation": _base64(np.rint(shown.rotations.numpy() * 127).astype(np.int8)),
        "colour": _base64(np.rint(looks.clip(0, 1) * 255).astype(np.uint8)),
        "left_out": len(splats) - len(chosen),
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
