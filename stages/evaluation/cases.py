"""What a protocol asks: one case an object, prompt or picture, with its truth where there is one.

held_out_cases(protocol, manifest, shards, objects, meshes, rendering) -> cases of rendered objects
text_cases(protocol, paint) -> cases of drawn prompts
picture_cases(protocol) -> cases of the pictures in a folder
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from models.camera import Camera
from stages.errors import InputError
from stages.evaluation.geometry import Surface, true_surface
from stages.evaluation.held_out import nearest_view
from stages.evaluation.metrics import Views
from stages.evaluation.protocols import Pictures, SingleImage, Text
from stages.hashing import file_md5
from stages.reconstruction.data import on_white
from stages.reconstruction.picture import Picture, object_picture, read_picture
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import MeshError
from stages.shards import Sample, read_shard

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LARGEST = 512
"""Pixels a side of an input picture; every network makes it smaller itself."""
MEAN_OF = 512
"""Training orbits that the mean image is taken over, at most."""


@dataclass(frozen=True)
class Case:
    """One input and what is asked of it. `views` are the places of the targets in the orbit; `truth` and `surface` are
    in the world of `cameras`. `fault` says why there is nothing to reconstruct: it is then the reason of every figure.
    """

    id: str
    object: str
    picture: Float[Tensor, "3 h w"]
    source: Camera
    cameras: Camera
    size: int
    views: tuple[int, ...]
    caption: str = ""
    creator: str = ""
    licence: str = ""
    truth: Views | None = None
    surface: Surface | str = "no true surface"
    alpha: Float[Tensor, "h w"] | None = None
    fault: str = ""


@dataclass(frozen=True)
class Cases:
    """All cases of a protocol, and a digest of what they show."""

    cases: tuple[Case, ...]
    data: str
    mean: Views | None = None
    """of training objects, seen by the target cameras"""


def held_out_cases(
    protocol: SingleImage,
    manifest: pl.DataFrame,
    shards: Path,
    objects: pl.DataFrame,
    meshes: Path,
    rendering: RenderingConfig,
) -> Cases:
    """Rendered orbits of the protocol's split; `file` of the table `objects` is below `meshes`, `shards` holds
    `<shard>/views.tar`. Raises InputError when the split is empty."""
    usable = manifest.filter(pl.col("reason").is_null())
    rows = usable.filter(pl.col("split") == protocol.split)
    if rows.is_empty():
        raise InputError(
            f"protocol {protocol.id} is empty: the manifest has no rendered object in split {protocol.split!r} "
            f"({len(manifest)} rows); import objects by other makers"
        )
    names = sorted(set(rows["object"]), key=lambda name: hashlib.sha256(name.encode()).hexdigest())[: protocol.most]
    rows = rows.filter(pl.col("object").is_in(names))
    files = dict(objects.select("id", "file").iter_rows())
    surfaces = {name: _true_surface(meshes / files[name], rendering, name) for name in names if name in files}
    training = usable.filter(pl.col("split") == "train")
    training = training.filter(pl.int_range(pl.len()) % max(1, len(training) // MEAN_OF) == 0).head(MEAN_OF)
    wanted, shown = set(rows["id"]), set(training["id"])
    digest = hashlib.sha256()
    cases, mean = [], _Mean()
    for shard in sorted({*rows["shard"], *training["shard"]}):
        for sample in read_shard(shards / shard / "views.tar"):
            if sample.id in wanted:
                digest.update(sample.id.encode() + sample.views.tobytes() + sample.cameras.numbers().numpy().tobytes())
                cases.append(_rendered(sample, protocol, surfaces))
            elif sample.id in shown:
                mean.add(sample.views)
    return Cases(tuple(cases), digest.hexdigest()[:16], mean.of(cases[0]))


class _Mean:
    """The mean of training views at each azimuth, kept as one sum."""

    def __init__(self) -> None:
        self.sum: Float[Tensor, "v 4 h w"] | None = None
        self.count = 0

    def add(self, views: UInt8[np.ndarray, "v h w 4"]) -> None:
        rgb, alpha = on_white(torch.from_numpy(views))
        whole = torch.cat((rgb, alpha[:, None]), 1).double()
        if self.sum is None or self.sum.shape == whole.shape:
            self.sum = whole if self.sum is None else self.sum + whole
            self.count += 1

    def of(self, case: Case) -> Views | None:
        """At the case's target views; None where training views are of another size."""
        if self.sum is None or self.sum.shape[-1] != case.size or len(self.sum) <= max(case.views):
            return None
        mean = (self.sum[list(case.views)] / self.count / 255).float()
        return Views(mean[:, :3], mean[:, 3])


def _rendered(sample: Sample, protocol: SingleImage, surfaces: dict[str, Surface | str]) -> Case:
    cameras, count = sample.cameras, len(sample.views)
    view = nearest_view(cameras, protocol.input_azimuth)
    targets = tuple((view + step) % count for step in range(protocol.every, count, protocol.every))
    rgb, alpha = (part.float() / 255 for part in on_white(torch.from_numpy(sample.views)))
    name, meta, some = str(sample.meta["object"]), sample.meta, list(targets)
    return Case(
        id=sample.id,
        object=name,
        picture=rgb[view],
        source=cameras[view],
        cameras=cameras[some],
        size=rgb.shape[-1],
        views=targets,
        caption=str(meta.get("caption") or ""),
        creator=str(meta.get("creator") or ""),
        licence=str(meta.get("licence") or ""),
        truth=Views(rgb[some], alpha[some]),
        surface=surfaces.get(name, "no true surface: the object's mesh is not in the table"),
        alpha=alpha[view],
    )


def _true_surface(file: Path, rendering: RenderingConfig, name: str) -> Surface | str:
    try:
        return true_surface(file, rendering, name)
    except MeshError as error:
        return f"no true surface: {error}"


def text_cases(protocol: Text, paint: Callable[[str, int], Picture]) -> Cases:
    """Each prompt's picture, by `paint(prompt, seed)`. A prompt that is refused or gives no picture keeps its case,
    with the reason. Raises InputError when there is no prompt."""
    if not protocol.prompts:
        raise InputError(f"protocol {protocol.id} is empty: it has no prompts; give it some")
    named = [(f"p{number:03d}", prompt) for number, prompt in enumerate(protocol.prompts)]
    cases = [
        _shown(protocol, id_, prompt, prompt, lambda prompt=prompt: paint(prompt, protocol.seed))
        for id_, prompt in named
    ]
    return Cases(tuple(cases), "")  # the drawn pictures are part of the method, the prompts stand in the protocol


def picture_cases(protocol: Pictures) -> Cases:
    """The pictures of the protocol's folder, by name. One that cannot be used keeps its case, with the reason. Raises
    InputError when there is none."""
    if not protocol.folder:
        raise InputError(
            f"protocol {protocol.id} names no folder; give one: --protocol FOLDER, or `folder:` in a .yaml"
        )
    folder = Path(protocol.folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; protocol {protocol.id} reads its pictures there")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"protocol {protocol.id} is empty: {folder} holds no {', '.join(SUFFIXES[:4])}")
    stems = [path.stem for path in files]
    cases = [
        _shown(
            protocol,
            path.name if stems.count(path.stem) > 1 else path.stem,
            path.stem,
            "",
            lambda p=path: read_picture(p),
        )
        for path in files
    ]
    digest = hashlib.sha256("".join(file_md5(path) for path in files).encode())
    return Cases(tuple(cases), digest.hexdigest()[:16])


def _shown(protocol: Text | Pictures, id_: str, name: str, caption: str, picture: Callable[[], Picture]) -> Case:
    ring = Camera.orbit(protocol.views, protocol.elevation, protocol.radius, protocol.focal)
    seen, fault = torch.ones(3, 1, 1), ""
    try:
        found = picture()
        side = min(LARGEST, max(protocol.size, *found.rgba.shape[:2]))
        seen = object_picture(found, side, protocol.fill)
    except InputError as error:
        fault = str(error)
    return Case(
        id=id_,
        object=name,
        picture=seen,
        source=ring[0],
        cameras=ring,
        size=protocol.size,
        views=tuple(range(protocol.views)),
        caption=caption,
        fault=fault,
    )
