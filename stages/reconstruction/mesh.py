"""From planes to a surface: marching cubes over slabs, the parts that matter, as many faces as wanted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import fast_simplification
import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from torch import Tensor

from models.lrm import LRM, Planes
from models.triplane import Field, Triplane
from stages.errors import InputError
from stages.reconstruction.config import MeshConfig

EMPTY = 1e-2  # density that hides a thousandth of what lies behind the box
LAYERS = 32  # grid layers that marching cubes sees at once
PROBE = 64  # points a side of the grid that the threshold is judged on


def extract_mesh(lrm: LRM, planes: Triplane, config: MeshConfig) -> trimesh.Trimesh:
    """The surface of one object, z up, coloured at its vertices; see `extract_surface`."""
    field = lrm.field(planes)
    mesh = extract_surface(lrm, field, planes.box, config)
    colours = (colours_at(lrm, field, mesh.vertices) * 255).astype(np.uint8)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)


def extract_surface(lrm: LRM, field: Field, box: float, config: MeshConfig) -> trimesh.Trimesh:
    """The surface where the density of one object is the threshold, z up, without colours.

    The grid has `config.grid` points a side and includes the faces of the box; memory grows with its square and with
    the surface. `metadata["threshold"]` of the mesh says where the surface was drawn. Raises InputError when the box is
    as good as empty, or when nothing in it reaches the threshold that was asked for.
    """
    with torch.no_grad():
        threshold, largest = _threshold(lrm.densities(field, min(config.grid, PROBE)), 2 * box, config)
        found = _surface(lrm.densities(field, config.grid, threshold), config.grid, threshold)
    if found is None:
        raise InputError(
            f"no surface: no density in a grid of {config.grid} points a side reaches the threshold {threshold:.3g}, "
            f"the largest is about {largest:.3g}; choose a lower threshold, or none for an automatic one"
        )
    vertices, faces = found
    vertices, faces = largest_parts(vertices, faces, config.smallest_part)
    vertices = (np.clip(vertices / (config.grid - 1) * 2 - 1, -1, 1) * box).astype(np.float32)
    if config.faces is not None and len(faces) > config.faces:
        vertices, faces = fast_simplification.simplify(vertices, faces.astype(np.int32), target_count=config.faces)
    return trimesh.Trimesh(vertices, faces, process=False, metadata={"threshold": threshold})


def colours_at(lrm: LRM, planes: Planes, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
    """The model's colours at points, 0..1."""
    held = planes.planes if isinstance(planes, Field) else planes
    device = (held.planes if isinstance(held, Triplane) else held).device
    with torch.no_grad():
        rgb = lrm.query(planes, torch.from_numpy(np.asarray(points, dtype=np.float32)).to(device)[None])[1][0]
    return rgb.clamp(0, 1).cpu().numpy()


def _threshold(slabs: Iterable[Float[Tensor, "rows g g"]], width: float, config: MeshConfig) -> tuple[float, float]:
    """What the config says or, automatically, the density at which the surface looks most like the volume does; and
    the largest density of the grid.

    Seen along each of three axes, a coarse grid hides what lies behind it (opacity above a half) or does not; a surface
    at some density shows a pixel where the largest density on its way exceeds it. The density is chosen whose
    silhouettes have the largest IoU with those of the volume.
    """
    sums, peaks = _along_axes(slabs)
    largest = float(peaks.max())
    if largest < EMPTY:
        raise InputError(
            f"no surface: the largest density is {largest:.3g}; show the object larger on a plain background, "
            "or train the model for longer"
        )
    if config.threshold is not None:
        return config.threshold, largest
    seen = 1 - np.exp(-sums * width / peaks.shape[-1]) > 0.5
    order = np.argsort(-peaks, axis=None, kind="stable")
    peak, inside = peaks.ravel()[order], np.cumsum(seen.ravel()[order])
    union = np.arange(1, len(order) + 1) + seen.sum() - inside
    best = int(np.argmax(np.where(peak[1:] < peak[:-1], inside[:-1] / union[:-1], -1)))
    return min(max(float(peak[best] + peak[best + 1]) / 2, EMPTY / 2), largest / 2), largest


def _along_axes(
    slabs: Iterable[Float[Tensor, "rows g g"]],
) -> tuple[Float[np.ndarray, "3 g g"], Float[np.ndarray, "3 g g"]]:
    """Sum and maximum of densities along x, y and z."""
    rows = [
        (slab.sum(0), slab.amax(0), slab.sum(1), slab.amax(1), slab.sum(2), slab.amax(2))
        for slab in (slab.cpu() for slab in slabs)
    ]
    sums = [sum(row[0] for row in rows), torch.cat([row[2] for row in rows]), torch.cat([row[4] for row in rows])]
    peaks = [
        torch.stack([row[1] for row in rows]).amax(0),
        torch.cat([row[3] for row in rows]),
        torch.cat([row[5] for row in rows]),
    ]
    return torch.stack([torch.as_tensor(part) for part in sums]).numpy(), torch.stack(peaks).numpy()


def _surface(
    slabs: Iterable[Float[Tensor, "rows g g"]], side: int, threshold: float
) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]] | None:
    """Marching cubes over slabs of a grid, stitched: vertices in grid steps, faces that look outwards.

    A shell of emptiness around the box closes what it cuts. None when nothing reaches the threshold.
    """
    layers = chain.from_iterable(slab.cpu().numpy() for slab in slabs)
    empty = np.zeros((side, side), dtype=np.float32)
    vertices, faces, count = [], [], 0
    last = empty
    for first in range(-1, side + 1, LAYERS):  # the place of `last`
        more = [next(layers, empty) for _ in range(min(LAYERS, side - first))]
        volume = np.pad(np.stack([last, *more]), ((0, 0), (1, 1), (1, 1)))
        last = more[-1] if more else last
        if volume.max() <= threshold or volume.min() >= threshold or len(volume) < 2:
            continue
        own, triangles, _, _ = marching_cubes(volume, threshold)
        vertices.append(own + np.array((first, -1, -1), dtype=np.float32))
        faces.append(triangles[:, ::-1].astype(np.int64) + count)
        count += len(own)
    return _stitched(np.concatenate(vertices), np.concatenate(faces)) if faces else None


def _stitched(
    vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int64[np.ndarray, "f 3"]]:
    """Vertices that two slabs share become one: they lie in a layer of the grid, at the same place to the bit."""
    shared = np.flatnonzero((vertices[:, 0] + 1) % LAYERS == 0)
    _, first, which = np.unique(vertices[shared], axis=0, return_index=True, return_inverse=True)
    merged = np.arange(len(vertices))
    merged[shared] = shared[first[which.ravel()]]
    kept, renumbered = np.unique(merged, return_inverse=True)
    faces = renumbered[faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(1)  # vertices on a grid point leave faces without area
    return vertices[kept], faces[whole]


def largest_parts(
    vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], share: float
) -> tuple[Float[np.ndarray, "w 3"], Int64[np.ndarray, "g 3"]]:
    """Without the connected parts that enclose less than `share` of the volume of the largest."""
    if not share:
        return vertices, faces
    edges = np.concatenate((faces[:, :2], faces[:, 1:])).astype(np.int32)
    joined = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    count, part = connected_components(joined, directed=False)
    if count == 1:
        return vertices, faces
    of_face = part[faces[:, 0]]
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    volume = np.abs(np.bincount(of_face, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, count))
    keep = volume >= share * volume.max()
    kept = np.flatnonzero(keep[part])
    renumbered = np.zeros(len(vertices), dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    return vertices[kept], renumbered[faces[keep[of_face]]]
