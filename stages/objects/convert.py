"""Any mesh file as one self-contained GLB. Runs in a sandbox: imports stay light."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

from stages.rendering.config import RenderingConfig
from stages.rendering.loader import load
from stages.rendering.mesh import MeshError
from stages.rendering.preflight import references


@dataclass(frozen=True)
class Converted:
    faces: int
    geometry: str


def convert(path: Path, target: Path, config: RenderingConfig, rotation: Sequence[float] | None = None) -> Converted:
    """Write the object to `target` (.glb), y up. A GLB that needs nothing else is copied byte by byte.

    Raises MeshError, `reason: error`, for an object that could not be rendered well; see `load`.
    """
    loaded = load(path, config, rotation)
    if path.suffix.lower() == ".glb" and rotation is None and not references(path):
        shutil.copyfile(path, target)
    else:
        scene = trimesh.load_scene(path, process=False)
        if rotation is not None:
            turn = np.eye(4)
            turn[:3, :3] = np.reshape(rotation, (3, 3))
            scene.apply_transform(turn)
        for part in scene.geometry.values():
            _keep_transparency(part)
        try:
            data: Any = scene.export(file_type="glb", include_normals=True)
        except MemoryError:
            raise
        except Exception as error:  # trimesh and Pillow raise many types
            raise MeshError(f"not convertible: {type(error).__name__}: {error}") from error
        target.write_bytes(data)
    return Converted(len(loaded.mesh.faces), loaded.geometry)


def _keep_transparency(part: Any) -> None:
    """The `d` or `Tr` of an MTL, and holes in its texture, which trimesh reads and then forgets."""
    visual = getattr(part, "visual", None)
    if not isinstance(visual, TextureVisuals) or not isinstance(visual.material, SimpleMaterial):
        return
    said = visual.material.kwargs
    opacity = 1.0
    with suppress(KeyError, ValueError, IndexError, TypeError):
        opacity = 1 - float(said["tr"][0])
    with suppress(KeyError, ValueError, IndexError, TypeError):
        opacity = float(said["d"][0])
    pbr = visual.material.to_pbr()
    if 0 < opacity < 1:
        factor = np.array([255, 255, 255, 255] if pbr.baseColorFactor is None else pbr.baseColorFactor)
        factor[3] = round(255 * opacity)
        pbr.baseColorFactor = factor.astype(np.uint8)
    if 0 < opacity < 1 or (visual.material.image is not None and visual.material.image.has_transparency_data):
        pbr.alphaMode = "BLEND"
    visual.material = pbr
