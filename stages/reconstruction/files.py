"""Meshes as files that other programs read: GLB, OBJ with its material and texture, PLY."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.visual.color import ColorVisuals
from trimesh.visual.texture import TextureVisuals

from stages.errors import InputError

Axis = Literal["y", "z"]
FORMATS = (".glb", ".obj", ".ply")

_Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float64)  # rows of the turn that takes z to y


def write_mesh(
    mesh: trimesh.Trimesh, path: Path, extras: dict[str, Any], *, up: Axis = "y", scale: float | None = None
) -> list[Path]:
    """Write a mesh (z up) in the format of the path's suffix; returns the files, the one at `path` first.

    `up` is the axis that points up in the file: y is what glTF asks for. `scale` makes the longest side of its box that
    many units long, otherwise its size stays. `extras` (where the mesh comes from) stand in the `asset` of a GLB, in a
    comment of the others. An OBJ has its material and texture beside it; a PLY knows colours of vertices alone, so a
    texture becomes those. Colours are stored as they are seen (sRGB). Raises InputError for other suffixes.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path} should end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; those are written")
    placed = _placed(mesh, up, scale)
    comment = f"Orbitforge {json.dumps(extras, sort_keys=True)}"
    if path.suffix == ".glb":
        files = {path.name: _glb(placed, extras)}
    elif path.suffix == ".ply":
        files = {path.name: _ply(placed, comment)}
    else:
        files = _obj(placed, path, comment)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path.parent / name).write_bytes(data)
    return [path.parent / name for name in files]


def _placed(mesh: trimesh.Trimesh, up: Axis, scale: float | None) -> trimesh.Trimesh:
    factor = 1.0 if scale is None else scale / float(mesh.extents.max())
    vertices = np.asarray(mesh.vertices) * factor
    if up == "y":
        vertices = vertices @ _Y_UP.T
    return trimesh.Trimesh(
        vertices,
        mesh.faces,
        vertex_normals=_normals(vertices, np.asarray(mesh.faces)),
        visual=mesh.visual.copy(),  # pyright: ignore[reportOptionalMemberAccess]
        process=False,
    )


def _normals(vertices: Float[np.ndarray, "v 3"], faces: np.ndarray) -> Float[np.ndarray, "v 3"]:
    """Of the whole surface: vertices that an atlas doubled share theirs, so that no seam shows in the shading."""
    _, place = np.unique(vertices, axis=0, return_inverse=True)
    place = place.ravel()
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)  # as long as twice the area, so that large faces count more
    sums = np.stack(
        [
            np.bincount(place[faces].ravel(), np.repeat(across[:, axis], 3), minlength=place.max() + 1)
            for axis in range(3)
        ],
        -1,
    )
    return (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))[place]


def _glb(mesh: trimesh.Trimesh, extras: dict[str, Any]) -> bytes:
    def add_extras(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = extras

    return export_glb(mesh.scene(), include_normals=True, tree_postprocessor=add_extras)


def _ply(mesh: trimesh.Trimesh, comment: str) -> bytes:
    if isinstance(mesh.visual, TextureVisuals):
        colours = mesh.visual.to_color().vertex_colors
        _, first, place = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
        mesh = trimesh.Trimesh(
            mesh.vertices[first],
            place.ravel()[mesh.faces],
            vertex_normals=mesh.vertex_normals[first],
            visual=ColorVisuals(vertex_colors=colours[first]),
            process=False,
        )
    magic, form, rest = export_ply(mesh, vertex_normal=True).split(b"\n", 2)
    return b"\n".join((magic, form, f"comment {comment}".encode(), rest))


def _obj(mesh: trimesh.Trimesh, path: Path, comment: str) -> dict[str, bytes]:
    name = re.sub(r"\s+", "_", path.stem)  # names in an OBJ end at a space
    if isinstance(mesh.visual, TextureVisuals):
        mesh.visual.material.name = f"{name}_texture"  # and its file: chair.png is what chair.obj is often made of
    text, beside = export_obj(
        mesh, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl", header=comment, digits=6
    )
    return {path.name: text.encode(), **beside}
