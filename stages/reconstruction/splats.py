"""Gaussians as files that viewers of splats read: the binary PLY of 3DGS (arXiv 2308.04079)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from models.gaussians import Gaussians
from stages.errors import InputError
from stages.reconstruction.files import Axis

COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""Positions, normals (zeros, which viewers skip), colour's constant harmonic, logit of opacity, logarithms of scales,
quaternion (w, x, y, z)."""
HARMONIC = 0.5 / np.sqrt(np.pi)  # the constant spherical harmonic: a colour is .5 + HARMONIC * f_dc
LOGIT = 15.0  # of an opacity of 1, or 0: float32 knows no nearer one
FAINT = 0.02
"""Opacity below which a Gaussian is left out of files and pages: grids are mostly empty, and it would not be seen."""
LEAST = 1e-12  # of scales, whose logarithm is stored
_TURN = np.array([np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0])  # the quaternion that takes z to y


def write_splats(
    gaussians: Gaussians, path: Path, extras: dict[str, Any], *, up: Axis = "y", scale: float | None = None
) -> Path:
    """Write Gaussians (z up) to `path`, a .ply, whole or not at all; returns it.

    `up` is the axis that points up in the file, as with meshes; rotations turn along. `scale` makes the longest side of
    the box around the middles that many units long, otherwise sizes stay. `extras` (where they come from) stand in a
    comment. Raises InputError for another suffix, and for values that are not finite.
    """
    if path.suffix != ".ply":
        raise InputError(f"{path} should end in .ply; splats are written in that form")
    columns = _columns(gaussians, up, scale)
    if not np.isfinite(columns).all():
        broken = int((~np.isfinite(columns)).any(1).sum())
        raise InputError(f"{broken} of {len(columns)} Gaussians have values that are not finite; {path} is not written")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment Orbitforge {json.dumps(extras, sort_keys=True)}",
        f"element vertex {len(columns)}",
        *(f"property float {name}" for name in COLUMNS),
        "end_header\n",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes("\n".join(header).encode() + columns.astype("<f4").tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_splats(path: Path, *, up: Axis = "y") -> Gaussians:
    """Gaussians (z up) of a file in which `up` points up. Further properties, such as the harmonics of a colour that
    depends on the side, are left out. Raises InputError for what is no binary PLY of splats."""
    vertices = _vertices(path)
    if lacking := [name for name in COLUMNS if name not in (vertices.dtype.names or ()) and name[0] != "n"]:
        raise InputError(f"{path} holds no splats: its vertices have no {', '.join(lacking)}")

    def read(*names: str) -> Float[np.ndarray, "n columns"]:
        return np.stack([vertices[name] for name in names], -1).astype(np.float64)

    positions, rotations = read("x", "y", "z"), read(*(f"rot_{k}" for k in range(4)))
    if up == "y":
        positions, rotations = _turned(positions, rotations, _TURN * (1, -1, 1, 1))
    with np.errstate(over="ignore"):
        opacities = 1 / (1 + np.exp(-read("opacity")[:, 0]))
        scales = np.exp(read(*(f"scale_{k}" for k in range(3))))
    colours = (0.5 + HARMONIC * read(*(f"f_dc_{k}" for k in range(3)))).clip(0, 1)
    rotations = rotations / np.linalg.norm(rotations, axis=-1, keepdims=True).clip(1e-12)
    parts = (positions, scales, rotations, opacities, colours)
    if not all(np.isfinite(part).all() for part in parts):
        raise InputError(f"{path} holds splats with values that are not finite")
    return Gaussians(*(torch.from_numpy(part.astype(np.float32)) for part in parts))


def _columns(gaussians: Gaussians, up: Axis, scale: float | None) -> Float[np.ndarray, "n 17"]:
    of = gaussians.detach().to("cpu", torch.float64)
    positions, rotations = of.positions.numpy(), of.rotations.numpy()
    rotations = rotations / np.linalg.norm(rotations, axis=-1, keepdims=True).clip(1e-12)
    longest = float(np.ptp(positions, axis=0).max()) if len(positions) else 0.0
    factor = scale / longest if scale is not None and longest > 0 else 1.0
    if up == "y":
        positions, rotations = _turned(positions, rotations, _TURN)
    opacities = of.opacities.clamp(0, 1).logit().clamp(-LOGIT, LOGIT).numpy()
    harmonics = (of.colours.numpy() - 0.5) / HARMONIC
    scales = np.log((of.scales.numpy() * factor).clip(LEAST))
    return np.concatenate(
        (positions * factor, np.zeros_like(positions), harmonics, opacities[:, None], scales, rotations), -1
    )


def _turned(
    positions: Float[np.ndarray, "n 3"], rotations: Float[np.ndarray, "n 4"], turn: Float[np.ndarray, " 4"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 4"]]:
    """Both turned about x by `turn`, a quarter: y and z change places, one of them with its sign."""
    x, y, z = positions.T
    sign = np.sign(turn[1])
    w1, x1, y1, z1 = turn
    w2, x2, y2, z2 = rotations.T
    product = (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )
    return np.stack((x, -sign * z, sign * y), -1), np.stack(product, -1)


def _vertices(path: Path) -> np.ndarray:
    """The rows of a binary PLY's vertices, which must come first, as a structured array."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    end = data.find(b"end_header\n")
    if not data.startswith((b"ply\n", b"ply\r\n")) or end < 0:
        raise InputError(f"{path} is no PLY file")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"{path} is no binary little-endian PLY, the form that splats have")
    elements = [k for k, line in enumerate(lines) if line[:1] == ["element"]]
    if not elements or lines[elements[0]][1:2] != ["vertex"]:
        raise InputError(f"{path} does not begin with vertices")
    within = lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]
    kinds = {"float": "<f4", "float32": "<f4", "double": "<f8", "uchar": "u1", "int": "<i4", "uint": "<u4"}
    try:
        count = int(lines[elements[0]][2])
        row = np.dtype([(line[2], kinds[line[1]]) for line in within if line[:1] == ["property"]])
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path} has a header that is not understood ({error})") from None
    body = data[end + len(b"end_header\n") :]
    if count < 0 or len(body) < count * row.itemsize:
        raise InputError(f"{path} is cut short: {len(body)} of {count * row.itemsize} bytes of splats")
    return np.frombuffer(body, row, count)
