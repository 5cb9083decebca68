"""A mesh file as flat arrays that the rasteriser can walk: one list of triangles, one pyramid of texels."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from stages.rendering.config import RenderingConfig


class MeshError(ValueError):
    """A mesh that cannot be rendered, with the reason that goes into the quarantine table."""


@dataclass(frozen=True)
class Mesh:
    """Triangles in world space (z up), centred, with `material` per face; colours are sRGB in 0..1 times the texture.

    `levels` lists mip levels as (first texel, width, height); material m owns `levels[first:first + count]` with
    (first, count) = `pyramids[m]`.
    """

    vertices: Float32[np.ndarray, "v 3"]
    normals: Float32[np.ndarray, "v 3"]
    uv: Float32[np.ndarray, "v 2"]
    colours: Float32[np.ndarray, "v 4"]
    faces: Int64[np.ndarray, "f 3"]
    material: Int64[np.ndarray, " f"]
    cutoff: Float32[np.ndarray, " m"]
    pyramids: Int64[np.ndarray, "m 2"]
    levels: Int64[np.ndarray, "l 3"]
    texels: UInt8[np.ndarray, "t 4"]

    def stretched(self, scale: Float32[np.ndarray, 3], fit: float) -> Mesh:
        """The mesh with its axes scaled, fitted again; normals follow by the inverse scale."""
        normals = self.normals / scale
        return replace(
            self,
            vertices=fitted((self.vertices * scale).astype(np.float32), fit),
            normals=(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)).astype(np.float32),
        )


def load_mesh(path: Path, config: RenderingConfig) -> Mesh:
    """Read any file that trimesh reads and flatten it, see `flatten`.

    Raises MeshError with a reason when the file is unreadable, or for what `flatten` refuses.
    """
    try:
        scene = trimesh.load_scene(path, process=False)
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises nearly every type on broken files
        raise MeshError(f"unreadable: {type(error).__name__}: {error}") from error
    return flatten(scene, config)


def flatten(scene: trimesh.Scene, config: RenderingConfig) -> Mesh:
    """Turn a scene's y up to z up, centre it and fit its sphere to `config.fit`.

    Raises MeshError with a reason when it has no faces, more than `config.max_faces`, or numbers that are not finite.
    """
    try:
        nodes = [scene.graph[name] for name in scene.graph.nodes_geometry]
        parts = [(scene.geometry[name], transform) for transform, name in nodes]
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises nearly every type on broken files
        raise MeshError(f"unreadable: {type(error).__name__}: {error}") from error
    parts = [(part, transform) for part, transform in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        raise MeshError("no faces: the file holds points, lines or nothing")
    count = sum(len(part.faces) for part, _ in parts)
    if count > config.max_faces:
        raise MeshError(f"too many faces: {count} > max_faces {config.max_faces}")

    vertices, normals, uvs, colours, faces, materials = [], [], [], [], [], []
    pyramids, levels, texels, cutoffs = [], [], [], []
    offset = texel_count = 0
    for index, (part, transform) in enumerate(parts):
        if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
            raise MeshError(f"face index out of range: {part.faces.max()} of {len(part.vertices)} vertices")
        colour, uv, image, cutoff = _appearance(part)
        part = part.copy()  # forgets vertex colours beside a material
        part.apply_transform(transform)
        vertices.append(part.vertices)
        normals.append(np.nan_to_num(part.vertex_normals))
        uvs.append(uv)
        colours.append(colour)
        faces.append(part.faces + offset)
        materials.append(np.full(len(part.faces), index))
        cutoffs.append(cutoff)
        pyramid = _mipmaps(image)
        pyramids.append((len(levels), len(pyramid)))
        for level in pyramid:
            levels.append((texel_count, level.shape[1], level.shape[0]))
            texels.append(level.reshape(-1, 4))
            texel_count += level.shape[0] * level.shape[1]
        offset += len(part.vertices)

    points = np.concatenate(vertices)
    if not np.isfinite(points).all():
        raise MeshError(f"not finite: {int((~np.isfinite(points)).any(1).sum())} of {len(points)} vertices")
    y_up = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64).T
    return Mesh(
        vertices=fitted((points @ y_up).astype(np.float32), config.fit),
        normals=(np.concatenate(normals) @ y_up).astype(np.float32),
        uv=np.concatenate(uvs).astype(np.float32),
        colours=np.concatenate(colours).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int64),
        material=np.concatenate(materials).astype(np.int64),
        cutoff=np.array(cutoffs, dtype=np.float32),
        pyramids=np.array(pyramids, dtype=np.int64),
        levels=np.array(levels, dtype=np.int64),
        texels=np.concatenate(texels),
    )


def fitted(points: Float32[np.ndarray, "v 3"], fit: float) -> Float32[np.ndarray, "v 3"]:
    """Points centred on their box and scaled so that the farthest lies `fit` from the origin.

    A sphere of 0.83 just fills the view of the published camera (radius 1.5, focal 0.75).
    """
    centred = points - (points.min(0) + points.max(0)) / 2
    size = float(np.linalg.norm(centred, axis=1).max())
    if size < 1e-12:
        raise MeshError("all vertices coincide")
    return (centred * (fit / size)).astype(np.float32)


def _appearance(part: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray, Image.Image | None, float]:
    """Vertex colours [v, 4], texture coordinates [v, 2], the texture, and the alpha cut-off (0: blend, 2: opaque)."""
    count = len(part.vertices)
    visual: Any = part.visual
    if not isinstance(visual, TextureVisuals):
        cutoff = 0.0 if visual.transparency else 2.0
        return np.asarray(visual.vertex_colors, dtype=np.float64) / 255, np.zeros((count, 2)), None, cutoff
    material: Any = visual.material
    if isinstance(material, PBRMaterial):
        factor, image = material.baseColorFactor, material.baseColorTexture
        threshold = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
        blend = {"OPAQUE": 2.0, "MASK": threshold or 2.0}  # nothing falls below a threshold of 0
        cutoff, opacity = blend.get(material.alphaMode or "OPAQUE", 0.0), 1.0
    else:
        factor, image, opacity = material.diffuse, material.image, _opacity(material.kwargs)
        holes = image is not None and image.has_transparency_data
        cutoff = 0.0 if opacity < 1 or holes else 2.0
    colours = np.ones((count, 4))
    if factor is not None:
        factor = np.asarray(factor, dtype=np.float64)
        colours[:, : len(factor)] = factor / 255 if factor.max() > 1 else factor
    colours[:, 3] *= opacity
    own = visual.vertex_attributes.get("color")  # glTF multiplies material and vertex colours
    if own is not None and len(own) == count:
        own = np.asarray(own)
        colours[:, : own.shape[1]] *= own / np.iinfo(own.dtype).max if own.dtype.kind == "u" else own
    if visual.uv is None or len(visual.uv) != count:
        return colours, np.zeros((count, 2)), None, cutoff
    return colours, np.asarray(visual.uv), image, cutoff


def _opacity(said: dict[str, Any]) -> float:
    """What an MTL says by `d` or by `Tr`, its opposite, as trimesh passes it on; `d` counts where both stand.

    0 is read as opaque: exporters that have it the wrong way round are commoner than materials nobody can see.
    """
    for key, inverse in (("d", False), ("tr", True)):
        with suppress(KeyError, IndexError, TypeError, ValueError):
            value = float(said[key][-1])  # the last: `d -halo 0.5`
            value = 1 - value if inverse else value
            return value if 0 < value < 1 else 1.0
    return 1.0


def _mipmaps(image: Image.Image | None) -> list[np.ndarray]:
    """Box-filtered halvings of a texture down to one texel; first row at the bottom, as texture coordinates count."""
    if image is None:
        return [np.full((1, 1, 4), 255, dtype=np.uint8)]
    level = np.asarray(image.convert("RGBA"))[::-1]
    pyramid = [np.ascontiguousarray(level)]
    while level.shape[0] > 1 or level.shape[1] > 1:
        height, width = max(1, level.shape[0] // 2), max(1, level.shape[1] // 2)
        level = np.asarray(Image.fromarray(level).resize((width, height), Image.Resampling.BOX))
        pyramid.append(np.ascontiguousarray(level))
    return pyramid
