"""Reconstructed surfaces against true ones: Chamfer distance, F-score and normal consistency, in a world where objects
are 1.6 long.

held_out_surfaces(objects, meshes, rendering, ids) -> points on the true surface of each orbit's object
compared(made, truth) -> all figures of two surfaces
geometry(model, orbits, protocol, surfaces, config) -> id, object, chamfer, f_score; null where there is no mesh
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
import trimesh
from jaxtyping import Float
from scipy.spatial import KDTree

from models.camera import Camera
from models.lrm import LRM
from stages.errors import InputError
from stages.evaluation.held_out import input_view, object_of
from stages.reconstruction.config import MeshConfig, ProtocolConfig
from stages.reconstruction.data import Orbits
from stages.reconstruction.mesh import extract_surface
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import load_mesh
from stages.seeds import sample_seed

POINTS = 10_000
NEAR = 0.05
"""A point is recovered when the other surface is nearer than this: a thirtieth of the object's length."""
FIGURES = ("chamfer", "f_score")

Points = Float[np.ndarray, "p 3"]


class Surface(NamedTuple):
    """Points spread evenly over a surface, and its unit normals there."""

    points: Points
    normals: Points


def compared(made: Surface, truth: Surface, near: float = NEAR) -> dict[str, float]:
    """chamfer, f_score and normal_consistency, by the two nearest-neighbour searches that they share."""
    there, at = _nearest(made.points, truth.points)
    back, of = _nearest(truth.points, made.points)
    consistency = (_alike(made.normals, truth.normals[at]) + _alike(truth.normals, made.normals[of])) / 2
    return {"chamfer": _mean(there, back), "f_score": _within(there, back, near), "normal_consistency": consistency}


def normal_consistency(first: Surface, second: Surface) -> float:
    """The mean cosine, its sign left out, between the normal of a point of either surface and that of the nearest one
    of the other, averaged over both directions. Signs tell nothing: collected meshes are not oriented."""
    return compared(first, second)["normal_consistency"]


def surface(mesh: trimesh.Trimesh, count: int, seed: int) -> Surface:
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)[:2]
    return Surface(np.asarray(points), np.asarray(mesh.face_normals[faces]))


def _alike(first: Points, second: Points) -> float:
    return float(np.abs((first * second).sum(1)).mean())


def _mean(there: np.ndarray, back: np.ndarray) -> float:
    return float(there.mean() + back.mean()) / 2


def _within(there: np.ndarray, back: np.ndarray, near: float) -> float:
    precision, recall = float((there < near).mean()), float((back < near).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _nearest(first: Points, second: Points) -> tuple[np.ndarray, np.ndarray]:
    distance, place = KDTree(second).query(first)
    return np.asarray(distance), np.asarray(place)


def chamfer(first: Points, second: Points) -> float:
    """The mean distance from a point of either set to the other set, averaged over both directions."""
    return _mean(*_distances(first, second))


def f_score(made: Points, truth: Points, near: float = NEAR) -> float:
    """Harmonic mean of the shares of `made` that lie near the truth, and of the truth that lie near `made`."""
    return _within(*_distances(made, truth), near)


def _distances(first: Points, second: Points) -> tuple[np.ndarray, np.ndarray]:
    return _nearest(first, second)[0], _nearest(second, first)[0]


def true_surface(file: Path, rendering: RenderingConfig, name: str) -> Surface:
    """Of the object `name`, placed as it is rendered. Raises MeshError."""
    mesh = load_mesh(file, rendering)
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return surface(whole, POINTS, sample_seed(0, name) % 2**32)


def placed(made: Surface, source: Camera) -> Surface:
    """From the world in which the input camera stands at azimuth 0 to the camera's own."""
    own = source.relative_to(source)
    back = (source.pose @ own.pose.inverse()).double().numpy()
    return Surface(made.points @ back[:3, :3].T + back[:3, 3], made.normals @ back[:3, :3].T)


def held_out_surfaces(
    objects: pl.DataFrame, meshes: Path, rendering: RenderingConfig, ids: tuple[str, ...]
) -> dict[str, Points]:
    """Points on the true surfaces of the objects of orbits, placed as they are rendered; `file` is below `meshes`."""
    files = dict(objects.select("id", "file").iter_rows())
    names = sorted({object_of(id_) for id_ in ids} & files.keys())
    return {name: true_surface(meshes / files[name], rendering, name).points for name in names}


def geometry(
    model: LRM | None,
    orbits: Orbits,
    protocol: ProtocolConfig,
    surfaces: Mapping[str, Points],
    config: MeshConfig,
) -> pl.DataFrame:
    """One row an orbit with a true surface: the model's mesh from the input view alone, in the truth's world. Without a
    model (the baselines are pictures), or where it makes no surface, figures are null."""
    view = input_view(orbits, protocol)
    rows = []
    for row, id_ in enumerate(orbits.ids):
        if (truth := surfaces.get(object_of(id_))) is None:
            continue
        made = None if model is None else _points(model, orbits, row, view, config)
        apart = None if made is None else _distances(made, truth)
        found = (None, None) if apart is None else (_mean(*apart), _within(*apart, NEAR))
        rows.append({"id": id_, "object": object_of(id_), **dict(zip(FIGURES, found, strict=True))})
    schema = {"id": pl.String, "object": pl.String, **dict.fromkeys(FIGURES, pl.Float64)}
    return pl.DataFrame(rows, schema=schema)


def _points(model: LRM, orbits: Orbits, row: int, view: int, config: MeshConfig) -> Points | None:
    camera = orbits.cameras[row][view]
    own = camera.relative_to(camera)
    with torch.no_grad():
        planes = model.triplane(orbits.rgb[row, view][None].float() / 255, Camera(own.pose[None], own.intrinsics[None]))
    try:
        mesh = extract_surface(model, model.field(planes), planes.box, config)
    except InputError:
        return None
    return placed(surface(mesh, POINTS, sample_seed(1, orbits.ids[row]) % 2**32), camera).points
