"""One picture in, a 3D asset out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.lrm import LRM
from models.triplane import Field, Triplane
from stages.reconstruction.config import ExportConfig
from stages.reconstruction.files import write_mesh
from stages.reconstruction.mesh import colours_at, extract_mesh, extract_surface
from stages.reconstruction.picture import Picture, object_picture, read_picture
from stages.reconstruction.texture import textured
from stages.reconstruction.turntable import turntable, write_video

Height = Callable[[Float[Tensor, "3 s s"]], float]
"""Degrees from which an object on white is seen."""


@dataclass(frozen=True)
class Reconstructor:
    """A model that is ready to be called with pictures; `md5` of its weights, and its `kind` as `load` has it."""

    lrm: LRM
    md5: str
    kind: str = "orbitforge"
    config: ExportConfig = field(default_factory=lambda: ExportConfig.model_validate({}))

    def __call__(self, image: Path | str | Picture, elevation: float | Height | None = None) -> Asset:
        """Reconstruct the object of one picture, taken from `elevation` degrees above it: a number, something that
        tells it from the object on white, or None for `config.elevation`.

        Raises InputError when the picture cannot be read or shows nothing.
        """
        picture = image if isinstance(image, Picture) else read_picture(Path(image))
        config = self.config
        view = object_picture(picture, self.lrm.config.encoder.image_size, config.fill, config.saliency)
        height = elevation(view) if callable(elevation) else config.elevation if elevation is None else elevation
        made = self.seen_by(view, Camera.orbit(1, height, config.radius, config.focal)[0], picture.notes)
        return made.told(elevation=round(height, 2))

    @torch.no_grad()
    def seen_by(self, view: Float[Tensor, "3 s s"], camera: Camera, notes: tuple[str, ...] = ()) -> Asset:
        """Reconstruct what `camera` sees: RGB on white, 0..1."""
        device = next(self.lrm.parameters()).device
        own = camera.relative_to(camera).to(device)
        planes = self.lrm.triplane(view[None].to(device), Camera(own.pose[None], own.intrinsics[None]))
        return Asset(self.lrm, planes, self.config, {"model_md5": self.md5, "generator": "Orbitforge"}, notes)


@dataclass(frozen=True)
class Asset:
    """A reconstruction, before it is a mesh. `notes` say what was converted of its picture."""

    lrm: LRM
    planes: Triplane
    config: ExportConfig
    extras: dict[str, Any]
    notes: tuple[str, ...] = ()

    def told(self, **more: Any) -> Self:
        """The same, with more in its extras."""
        return replace(self, extras={**self.extras, **more})

    @cached_property
    def field(self) -> Field:
        return self.lrm.field(self.planes)

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """Textured or, where `config.mesh.texture` is None, with colours at its vertices; z up. Raises InputError when
        there is no surface."""
        config, box = self.config.mesh, self.planes.box
        if config.texture is None:
            return extract_mesh(self.lrm, self.planes, config)
        surface = extract_surface(self.lrm, self.field, box, config)
        return textured(surface, lambda points: colours_at(self.lrm, self.field, points), config.texture)

    def write(self, path: Path | str) -> list[Path]:
        """Write a GLB, OBJ or PLY; see `write_mesh`."""
        return write_mesh(self.mesh, Path(path), self.extras, up=self.config.up, scale=self.config.scale)

    def write_turntable(self, path: Path | str) -> None:
        """Write an MP4 once around."""
        write_video(turntable(self.lrm, self.planes, self.config.turntable), Path(path), self.config.turntable.rate)
