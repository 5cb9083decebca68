"""What can be evaluated: a reconstruction model, the outputs of any other one in a folder, and the two baselines.

A subject shows what it makes of a case, or raises InputError with the reason why it makes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stages.errors import InputError
from stages.evaluation.cases import Case
from stages.evaluation.geometry import POINTS, Surface, placed, surface
from stages.evaluation.metrics import COST, Figure, Views, measured, resized
from stages.pictures import BROKEN, open_picture
from stages.reconstruction.asset import Asset, Reconstructor
from stages.reconstruction.mesh import extract_surface
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh, MeshError, load_mesh
from stages.rendering.preflight import preflight
from stages.rendering.rasterise import render
from stages.sandbox import Limits, Sandbox, SandboxError
from stages.seeds import sample_seed

FORMATS = (".glb", ".obj", ".ply")
NO_SURFACE = "a picture has no surface"
ELSEWHERE = "made elsewhere"
UNLIT = {"ambient": 1.0, "supersampling": 2}
"""Colours of reconstructions hold the light of their input already."""


@dataclass(frozen=True)
class Made:
    """What a subject shows of a case. `write` leaves a GLB at a path, where there is a mesh to show."""

    views: Views
    surface: Surface | str
    cost: dict[str, Figure]
    depth: Float[Tensor, "v s s"] | None = None
    mesh: Mesh | None = None
    write: Callable[[Path], object] | None = None


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    def show(self, case: Case) -> Made:
        """Raises InputError with the reason why there is nothing."""
        ...


@dataclass(frozen=True)
class Model:
    """A reconstruction model, and how its surface is drawn (`reconstructor.config.mesh`)."""

    name: str
    reconstructor: Reconstructor
    _alone: Lock = field(default_factory=Lock, repr=False, compare=False)

    @torch.no_grad()
    def show(self, case: Case) -> Made:
        lrm = self.reconstructor.lrm
        device = next(lrm.parameters()).device
        picture = resized(case.picture[None], lrm.config.encoder.image_size)[0]
        with self._alone, measured(device) as cost:  # other threads may render: their memory is small
            asset = self.reconstructor.seen_by(picture, case.source)
            points = self._surface(asset, case)
            took = cost()
        cameras = case.cameras.relative_to(case.source).to(device)
        seen = lrm.render(asset.field, cameras[None], case.size)
        rgb, alpha, depth = (part[0].cpu() for part in (seen.rgb, seen.weight[:, :, 0], seen.depth[:, :, 0]))
        bad = ~torch.stack([part.isfinite().flatten(1).all(1) for part in (rgb, alpha)]).all(0)
        if bad.any():
            raise InputError(f"not finite: {int(bad.sum())} of {len(bad)} rendered views hold NaN or infinity")
        return Made(
            Views(rgb.clamp(0, 1), alpha.clamp(0, 1)),
            points,
            dict(zip(COST, took, strict=True)),
            depth,
            write=asset.write,
        )

    def _surface(self, asset: Asset, case: Case) -> Surface | str:
        try:
            mesh = extract_surface(asset.lrm, asset.field, asset.planes.box, self.reconstructor.config.mesh)
        except InputError as error:
            return str(error)
        found = surface(mesh, POINTS, sample_seed(1, case.id) % 2**32)
        return placed(found, case.source)


@dataclass
class Folder:
    """Outputs of any model, by the ids of cases (or the names of their objects): `<id>.glb|.obj|.ply`, or
    `<id>/<view>.png` with alpha, `view` being the place in the orbit, as in shards (`00`, `01`, ...).

    Meshes have y up and are seen by the input camera from +x, as `orbitforge reconstruct` writes them. They are centred
    and scaled as objects are before they are rendered, and drawn without light of their own. Use as a context manager:
    files are read in a child process, each within `limits`.
    """

    name: str
    folder: Path
    rendering: RenderingConfig
    limits: Limits | None = None
    _reader: Sandbox[..., Mesh] | None = field(default=None, repr=False)
    _alone: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is no folder of meshes or views")
        if not self.names:
            raise InputError(f"{self.folder} holds neither meshes ({', '.join(FORMATS)}) nor folders of views")

    @cached_property
    def names(self) -> frozenset[str]:
        found = sorted(self.folder.iterdir())
        meshes = {path.name for path in found if path.suffix.lower() in FORMATS}
        return frozenset(meshes | {path.name for path in found if path.is_dir() and any(path.glob("*.png"))})

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.__exit__(kind, error, trace)
            self._reader = None

    def show(self, case: Case) -> Made:
        for stem in (case.id, case.object):
            for suffix in FORMATS:
                if f"{stem}{suffix}" in self.names:
                    return self._mesh(self.folder / f"{stem}{suffix}", case)
            if stem in self.names:
                return Made(
                    self._views(self.folder / stem, case), "views alone, no mesh", dict.fromkeys(COST, ELSEWHERE)
                )
        raise InputError(f"missing: {self.folder.name} has no {case.id}.glb, .obj, .ply and no folder {case.id}")

    def _mesh(self, file: Path, case: Case) -> Made:
        config = self.rendering.model_copy(update={**UNLIT, "size": case.size, "device": "cpu"})
        try:
            with self._alone:
                self._reader = self._reader or Sandbox(read_mesh, self.limits).__enter__()
                mesh = self._reader(file, config)
        except (MeshError, SandboxError) as error:
            raise InputError(f"{file.name}: {error}") from None
        cameras = case.cameras.relative_to(case.source)
        seen = render(mesh, cameras, config)
        rgba = torch.from_numpy(seen.rgba).float() / 255
        alpha = rgba[..., 3]
        rgb = rgba[..., :3].movedim(-1, 1) * alpha[:, None] + 1 - alpha[:, None]
        whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        if not whole.area > 0:
            raise InputError(f"{file.name}: no faces: all {len(whole.faces)} are without area")
        points = placed(surface(whole, POINTS, sample_seed(1, case.id) % 2**32), case.source)
        depth = torch.from_numpy(seen.depth)
        return Made(
            Views(rgb, alpha), points, dict.fromkeys(COST, ELSEWHERE), depth, mesh, lambda path: as_glb(file, path)
        )

    def _views(self, folder: Path, case: Case) -> Views:
        files = {int(p.stem): p for p in folder.glob("*.png") if re.fullmatch(r"\d+", p.stem)}
        if absent := [view for view in case.views if view not in files]:
            raise InputError(
                f"missing: {folder.name} has no view {absent[0]:02d}.png ({len(absent)} of {len(case.views)})"
            )
        read = [_picture(files[view], case.size) for view in case.views]
        alphas = [alpha for _, alpha in read]
        whole = [alpha for alpha in alphas if alpha is not None]
        return Views(torch.stack([rgb for rgb, _ in read]), torch.stack(whole) if len(whole) == len(read) else None)


def read_mesh(file: Path, config: RenderingConfig) -> Mesh:
    """For the sandbox. Raises MeshError."""
    preflight(file)
    mesh = load_mesh(file, config)
    if not np.isfinite(mesh.uv).all() or not np.isfinite(mesh.colours).all():
        raise MeshError("not finite: texture coordinates or colours")
    return mesh


def as_glb(file: Path, path: Path) -> None:
    if file.suffix.lower() == ".glb":
        path.write_bytes(file.read_bytes())
    else:
        path.write_bytes(trimesh.load_scene(file, process=False).export(file_type="glb"))  # pyright: ignore


def _picture(file: Path, size: int) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "s s"] | None]:
    try:
        with open_picture(file) as image:
            if image.size != (size, size):
                raise InputError(
                    f"size: {file.parent.name}/{file.name} is {image.width} x {image.height}, the protocol's views are "
                    f"{size} x {size}"
                )
            clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            rgba = torch.from_numpy(np.array(image.convert("RGBA"))).float() / 255
    except InputError:
        raise
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise InputError(f"{file.parent.name}/{file.name} is no picture that can be read: {error}") from None
    alpha = rgba[..., 3]
    return rgba[..., :3].movedim(-1, 0) * alpha + 1 - alpha, alpha if clear else None


@dataclass(frozen=True)
class CopyOfInput:
    """The input picture as every view: what a model has to beat."""

    name: str = "copy of the input"

    def show(self, case: Case) -> Made:
        count = len(case.views)
        if case.alpha is None or case.picture.shape[-1] != case.size:
            raise InputError("the input picture is no view of the ring")
        views = Views(case.picture.expand(count, -1, -1, -1), case.alpha.expand(count, -1, -1))
        return Made(views, NO_SURFACE, dict.fromkeys(COST, "needs no model"))


@dataclass(frozen=True)
class MeanImage:
    """The mean of the training objects at each azimuth."""

    mean: Views | None
    name: str = "mean image"

    def show(self, case: Case) -> Made:
        if self.mean is None or self.mean.rgb.shape != (len(case.views), 3, case.size, case.size):
            raise InputError("no training views of this size to average")
        return Made(self.mean, NO_SURFACE, dict.fromkeys(COST, "needs no model"))
