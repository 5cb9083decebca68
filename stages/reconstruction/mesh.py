"""From planes to a surface: marching cubes over slabs, the parts that matter, as many faces as wanted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, Int64
from pyfqmr import Simplify  # pyright: ignore[reportAttributeAccessIssue]  # compiled
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from torch import Tensor

from models.lrm import LRM, Planes
from models.triplane import Field, Triplane
from stages.errors import InputError
from stages.reconstruction.config import MeshConfig

EMPTY = 1e-2  # density that hides a thousandth of what lies behind the box
SLAB = 1 << 22  # points that marching cubes sees at once, about
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
        found = _surface(lrm.densities(field, config.grid, threshold), config.grid, threshold, config.faces)
    if found is None:
        raise InputError(
            f"no surface: no density in a grid of {config.grid} points a side reaches the threshold {threshold:.3g}, "
            f"the largest is about {largest:.3g}; choose a lower threshold, or none for an automatic one"
        )
    vertices, faces = found
    vertices, faces = largest_parts(vertices, faces, config.smallest_part)
    vertices, faces = decimated(vertices, faces, config.faces)
    vertices = np.clip(vertices / (config.grid - 1) * 2 - 1, -1, 1) * box
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
    if not np.isfinite(largest):
        raise InputError("no surface: densities are not finite; are picture and weights what they should be?")
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
    slabs: Iterable[Float[Tensor, "rows g g"]], side: int, threshold: float, most: int | None = None
) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]] | None:
    """Marching cubes over slabs of a grid, stitched: vertices in grid steps, faces that look outwards.

    A shell of emptiness around the box closes what it cuts. No slab keeps more than `most` faces, so that a fine grid
    costs no more memory than a coarse one. None when nothing reaches the threshold.
    """
    layers = chain.from_iterable(slab.cpu().numpy() for slab in slabs)
    step = min(32, max(4, SLAB // side**2))
    volume = np.zeros((step + 1, side + 2, side + 2), dtype=np.float32)
    vertices, faces, count = [], [], 0
    for first in range(-1, side, step):  # the place of the first layer, which is the last one's last
        volume[0] = volume[-1]
        for layer in volume[1:]:
            layer[1:-1, 1:-1] = next(layers, 0)
        if volume.max() <= threshold or volume.min() >= threshold:
            continue
        own, triangles, _, _ = marching_cubes(volume, threshold)
        own, triangles = decimated(own, triangles[:, ::-1], most)
        vertices.append(own + np.array((first, -1, -1), dtype=own.dtype))
        faces.append(triangles.astype(np.int64) + count)
        count += len(own)
    return _stitched(np.concatenate(vertices), np.concatenate(faces), step) if faces else None


def _stitched(
    vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], step: int
) -> tuple[Float[np.ndarray, "w 3"], Int64[np.ndarray, "f 3"]]:
    """Vertices that two slabs share become one: they lie in a layer of the grid, at the same place to the bit."""
    shared = np.flatnonzero((vertices[:, 0] + 1) % step == 0)
    _, first, which = np.unique(vertices[shared], axis=0, return_index=True, return_inverse=True)
    merged = np.arange(len(vertices))
    merged[shared] = shared[first[which.ravel()]]
    kept, renumbered = np.unique(merged, return_inverse=True)
    faces = renumbered[faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(1)  # vertices on a grid point leave faces without area
    return vertices[kept], faces[whole]


def decimated(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], most: int | None
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"]]:
    """At most about `most` faces, by quadric error; open borders stay as they are, to the bit. Vertices in grid steps:
    the errors that are tolerated first are counted in them."""
    if most is None or len(faces) <= most:
        return vertices, faces
    simplify = Simplify()
    simplify.setMesh(vertices.astype(np.float64), faces.astype(np.int32))
    simplify.simplify_mesh(target_count=most, preserve_border=True, verbose=0)
    return simplify.getMesh()[:2]


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
