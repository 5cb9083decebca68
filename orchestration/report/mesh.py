"""A mesh as the page's viewer reads it: quantised arrays in base64, a small texture beside them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from PIL import Image
from trimesh.visual.texture import TextureVisuals

from stages.errors import InputError

TEXTURE = 256
"""Pixels of the longer side of a texture."""
QUALITY = 85


def packed(path: Path, most: int) -> dict[str, Any]:
    """What viewer.js draws, JSON of about 12 bytes a vertex and 6 a face.

    `position` are uint16 x, y, z in steps of the longest side of the box (y up), `size` its sides in that length, and
    `radius` how far the vertex farthest from its middle is; `normal` int8, `index` uint16 or, with `wide`, uint32; all
    little-endian in base64. Colours come from `uv` (uint16 in 0..1, from the upper left) and `texture` (a data URI), or
    from `colour` (uint8 RGB at vertices). A mesh of more than `most` faces gets fewer, with colours at its vertices.
    Raises InputError for a file that is no mesh or shows nothing.
    """
    mesh = _read(path)
    textured = _texture(mesh)
    if len(mesh.faces) > most:
        mesh, textured = _simplified(mesh, most), None
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    low, sides = vertices.min(0), np.ptp(vertices, axis=0)
    if not (longest := float(sides.max())) > 0:
        raise InputError(f"{path.name} is a mesh without extent")
    farthest = np.linalg.norm(vertices - low - sides / 2, axis=1).max() / longest
    wide = len(vertices) > 0xFFFF
    content: dict[str, Any] = {
        "size": [round(float(side) / longest, 5) for side in sides],
        "radius": round(float(farthest), 5),
        "position": _base64(_steps((vertices - low) / longest)),
        "normal": _base64(np.rint(np.nan_to_num(mesh.vertex_normals).clip(-1, 1) * 127).astype(np.int8)),
        "index": _base64(np.asarray(mesh.faces).astype("<u4" if wide else "<u2")),
        "wide": wide,
    }
    if textured:
        uv, image = textured
        return content | {"uv": _base64(_steps(uv)), "texture": _small(image)}
    return content | {"colour": _base64(np.ascontiguousarray(_colours(mesh)[:, :3]))}


def _read(path: Path) -> trimesh.Trimesh:
    try:
        mesh = trimesh.load_mesh(path, process=False)
    except Exception as error:  # whatever a broken file does to a parser
        raise InputError(f"{path.name} cannot be read: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise InputError(f"{path.name} holds no faces")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(f"{path.name} has vertices that are not finite")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise InputError(f"{path.name} has faces of vertices that do not exist")
    return mesh


def _texture(mesh: trimesh.Trimesh) -> tuple[Float[np.ndarray, "v 2"], Image.Image] | None:
    """Coordinates from the upper left and the picture; None where the texture repeats or there is none."""
    visual = mesh.visual
    if not isinstance(visual, TextureVisuals) or visual.uv is None or len(visual.uv) != len(mesh.vertices):
        return None
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    uv = np.asarray(visual.uv, dtype=np.float64) * (1, -1) + (0, 1)
    if image is None or not np.isfinite(uv).all() or uv.min() < -1e-3 or uv.max() > 1 + 1e-3:
        return None
    return uv, image


def _simplified(mesh: trimesh.Trimesh, most: int) -> trimesh.Trimesh:
    from scipy.spatial import KDTree

    from stages.reconstruction.mesh import decimated

    longest = float(np.ptp(mesh.vertices, axis=0).max()) or 1.0
    # seams are borders, which would stay as they are: only vertices at different places count as different
    places, first, place = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
    steps = 128 / longest
    vertices, faces = decimated(places * steps, place.ravel()[mesh.faces], most)
    nearest = KDTree(places).query(vertices / steps)[1]
    return trimesh.Trimesh(
        vertices / steps, faces, vertex_colors=_colours(mesh)[first][nearest], process=False, validate=False
    )


def _colours(mesh: trimesh.Trimesh) -> np.ndarray:
    visual = mesh.visual
    try:
        colours = visual.to_color().vertex_colors if isinstance(visual, TextureVisuals) else visual.vertex_colors  # pyright: ignore[reportOptionalMemberAccess]
        found = np.asarray(colours, dtype=np.uint8)
    except Exception:  # a material without colours
        found = np.empty((0, 4), np.uint8)
    return found if found.shape == (len(mesh.vertices), 4) else np.full((len(mesh.vertices), 4), 180, np.uint8)


def _steps(values: np.ndarray) -> np.ndarray:
    return np.rint(values.clip(0, 1) * 0xFFFF).astype("<u2")


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _small(image: Image.Image) -> str:
    image = image.convert("RGB")
    image.thumbnail((TEXTURE, TEXTURE))
    return webp(image, QUALITY)


def webp(image: Image.Image, quality: int) -> str:
    """The picture as a data URI."""
    data = io.BytesIO()
    image.save(data, "WEBP", quality=quality, method=6)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
