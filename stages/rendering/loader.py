"""A mesh file as one object that can be rendered well, or the reason why not. Runs in a sandbox: imports stay light."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh, MeshError, fitted, load_mesh
from stages.rendering.preflight import preflight
from stages.sandbox import SandboxError

Result = TypeVar("Result")

FLAT = "without-area"
"""The geometry of what has none."""
OVERDRAW = 5_000
"""How many times the triangles' boxes may cover the object's own: rendering time grows with it."""
SCENE_THINGS, SCENE_GAP, SCENE_THING = 12, 0.05, 0.05
"""A scene is so many things, this far apart and this large, both as shares of the whole's size."""
LARGEST_PARTS = 1_000
_A, _B = 0.445948490915965, 0.091576213509771
QUADRATURE_POINTS = np.array([np.roll((1 - 2 * a, a, a), turn) for a in (_A, _B) for turn in range(3)])
QUADRATURE_WEIGHTS = np.repeat((0.223381589678011, 0.109951743655322), 3)
"""Exact on triangles to degree 4 (Dunavant 1985)."""


@dataclass(frozen=True)
class Loaded:
    mesh: Mesh
    geometry: str
    """of the shape alone, see `geometry_hash`"""


def load(path: Path, config: RenderingConfig, rotation: Sequence[float] | None = None) -> Loaded:
    """Read, flatten and inspect one object; `rotation` (nine numbers, by row) turns the file's axes to y up.

    Raises MeshError, `reason: error`, for whatever is wrong with it.
    """
    preflight(path)
    try:
        mesh = load_mesh(path, config)
    except (MeshError, MemoryError):
        raise
    except Exception as error:  # trimesh raises nearly every type on broken files
        raise MeshError(f"unreadable: {type(error).__name__}: {error}") from error
    if not np.isfinite(mesh.vertices).all() or not np.isfinite(mesh.normals).all():
        raise MeshError("not finite: vertices or normals, once they are placed")
    if not np.isfinite(mesh.uv).all() or not np.isfinite(mesh.colours).all():
        raise MeshError("not finite: texture coordinates or colours")
    if rotation:
        mesh = _turned(mesh, np.array(rotation, dtype=np.float32).reshape(3, 3), config.fit)
    _refuse_overdraw(mesh)
    if (things := separate_things(mesh)) >= SCENE_THINGS:
        raise MeshError(f"a scene rather than an object: {things} things that stand apart")
    if (geometry := geometry_hash(mesh)) == FLAT:
        raise MeshError("no faces: all of them are without area")
    return Loaded(mesh, geometry)


def sandboxed(call: Callable[..., Result], *args: Any) -> Result:
    """A call of a sandbox; what had to be stopped raises MeshError as well."""
    try:
        return call(*args)
    except SandboxError as error:
        raise MeshError(str(error)) from error


def _turned(mesh: Mesh, rotation: Float32[np.ndarray, "3 3"], fit: float) -> Mesh:
    """The mesh, which has z up by now, as if its file had been turned."""
    z_up = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)
    turn = z_up @ rotation @ z_up.T
    return replace(
        mesh, vertices=fitted(mesh.vertices @ turn.T, fit), normals=(mesh.normals @ turn.T).astype(np.float32)
    )


def geometry_hash(mesh: Mesh) -> str:
    """Equal for copies of a shape, however placed, turned, scaled, coloured, triangulated or written down.

    It hashes moments of the surface, which no such change moves, rounded to a thousandth of the size.
    """
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    total = float(area.sum())
    if total <= 0:
        return FLAT
    points = np.einsum("pk,fki->pfi", QUADRATURE_POINTS, corners)
    weights = QUADRATURE_WEIGHTS[:, None] * area / total
    points -= np.einsum("pf,pfi->i", weights, points)
    squared = (points**2).sum(-1)
    spread = np.linalg.eigvalsh(np.einsum("pf,pfi,pfj->ij", weights, points, points))
    lean = np.linalg.norm(np.einsum("pf,pf,pfi->i", weights, squared, points))
    size = total**0.5
    moments = [*np.maximum(spread, 0) ** 0.5 / size, lean / size**3, (weights * squared**2).sum() ** 0.25 / size]
    return hashlib.sha256(np.round(np.array(moments) * 1000).astype(np.int64).tobytes()).hexdigest()[:16]


def _refuse_overdraw(mesh: Mesh) -> None:
    """Many large triangles over one another take hours to draw: refused by count rather than by the clock."""
    corners = mesh.vertices[mesh.faces]
    size = np.sort(corners.max(1) - corners.min(1), axis=1).astype(np.float64)
    whole = np.sort(np.ptp(mesh.vertices, axis=0)).astype(np.float64)
    times = (size[:, 1] * size[:, 2]).sum() / (whole[1] * whole[2])
    if times > OVERDRAW:
        raise MeshError(f"absurd counts: triangles cover the object {times:.0f} times, more than {OVERDRAW}")


def separate_things(mesh: Mesh) -> int:
    """How many groups of parts stand apart from all others, dust not counted."""
    _, point = np.unique(np.round(mesh.vertices, 5), axis=0, return_inverse=True)
    edges = point.ravel()[mesh.faces[:, [0, 1, 1, 2]]].reshape(-1, 2)
    count = int(point.max()) + 1
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), (count, count))
    _, part = connected_components(graph, directed=False)
    of_face = part[point.ravel()[mesh.faces[:, 0]]]
    parts, of_face = np.unique(of_face, return_inverse=True)
    corners = mesh.vertices[mesh.faces]
    low = np.full((len(parts), 3), np.inf)
    high = np.full((len(parts), 3), -np.inf)
    np.minimum.at(low, of_face, corners.min(1))
    np.maximum.at(high, of_face, corners.max(1))
    whole = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    largest = np.argsort(-np.linalg.norm(high - low, axis=1), kind="stable")[:LARGEST_PARTS]
    low, high = low[largest], high[largest]
    near = ((low[:, None] - high[None]) < SCENE_GAP * whole).all(-1)
    things, member = connected_components(near & near.T, directed=False)
    size = [np.linalg.norm(high[member == thing].max(0) - low[member == thing].min(0)) for thing in range(things)]
    return int((np.array(size) > SCENE_THING * whole).sum())
