"""The bank of rendered views that base trainings draw from, held in memory: rendering is cheaper than reading.

Of the caller's table only objects of the training split enter, whatever its split column says; invented ones may
join them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
import trimesh
from jaxtyping import Float, Float16, Int64, UInt8
from torch import Tensor

from models.camera import Camera
from stages.base.config import BankConfig
from stages.objects.invented import INVENTED, invention
from stages.objects.splits import TRAIN, split_of
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh, MeshError, flatten, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.solid import solid
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator

HALF = 0.82
"""Half side of the cube of solid space: objects lie within 0.8 (`RenderingConfig.fit`)."""


@dataclass(frozen=True)
class Bank:
    """Orbits of views. `rgba` is un-premultiplied; `depth` is along the viewing axis minus the orbit's radius and
    `normals` are in camera axes, both 0 where nothing is. View v of orbit o stands at `azimuth[o] + v * step`.
    `solid[variant]` packs the cells of `stages.rendering.solid` to bits, in a cube of half side `HALF`."""

    rgba: UInt8[Tensor, "o v h w 4"]
    depth: Float16[Tensor, "o v h w"]
    normals: Float16[Tensor, "o v h w 3"]
    object: Int64[Tensor, " o"]
    variant: Int64[Tensor, " o"]
    elevation: Float[Tensor, " o"]
    azimuth: Float[Tensor, " o"]
    solid: UInt8[Tensor, "variants bytes"]
    ids: tuple[str, ...]

    def images(
        self, orbit: Int64[Tensor, "*n"], view: Int64[Tensor, "*n"]
    ) -> tuple[Float[Tensor, "*n 3 h w"], Float[Tensor, "*n h w"]]:
        """RGB on white and coverage, both in 0..1."""
        rgba = self.rgba[orbit, view].float() / 255
        alpha = rgba[..., 3]
        rgb = rgba[..., :3] * alpha[..., None] + 1 - alpha[..., None]
        return rgb.movedim(-1, -3).contiguous(), alpha


def training_rows(objects: pl.DataFrame) -> pl.DataFrame:
    """The rows whose *creator* falls into the training split. Raises ValueError when there are none."""
    rows = objects.filter(pl.col("creator").map_elements(split_of, return_dtype=pl.String) == TRAIN)
    if rows.is_empty():
        raise ValueError(f"none of {len(objects)} objects is by a creator of the {TRAIN!r} split; add some")
    return rows


def render_bank(
    objects: pl.DataFrame,
    meshes: Path,
    config: BankConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> Bank:
    """Render `variants` x `orbits` orbits of every training object; `meshes` is the folder that `file` starts from.

    What one orbit looks like depends on (seed, object id, number) alone. A mesh that cannot be rendered is reported
    and left out. Raises ValueError when nothing is left.
    """
    rendering = config.rendering
    parts: list[tuple[Any, ...]] = []
    spaces: list[UInt8[np.ndarray, " bytes"]] = []
    ids: list[str] = []
    for thing in things(training_rows(objects), meshes, rendering, seed, report):
        ids.append(thing.id)
        for shape, colours, rng in _versions(thing.id, thing.mesh, config, seed):
            for _ in range(config.orbits):
                elevation, azimuth = rng.uniform(*rendering.elevation), rng.uniform(0, 360)
                cameras = Camera.orbit(rendering.views, elevation, rendering.radius, rendering.focal, azimuth)
                views = render(shape, cameras, rendering)
                depth = np.where(views.depth > 0, views.depth - rendering.radius, 0)
                normals = np.einsum("vhwk,vkc->vhwc", views.normals, cameras.pose[:, :3, :3].numpy())
                parts.append(
                    (
                        recoloured(views.rgba, colours),
                        depth.astype(np.float16),
                        normals.astype(np.float16),
                        len(ids) - 1,
                        len(spaces),
                        elevation,
                        azimuth,
                    )
                )
            spaces.append(np.packbits(solid(shape, rng, config.grid, HALF)) if config.grid else np.zeros(0, np.uint8))
    if not parts:
        raise ValueError(f"none of {len(objects)} training meshes below {meshes} could be rendered")
    rgba, depth, normals, owner, variant, elevation, azimuth = zip(*parts, strict=True)
    return Bank(
        rgba=torch.from_numpy(np.stack(rgba)),
        depth=torch.from_numpy(np.stack(depth)),
        normals=torch.from_numpy(np.stack(normals)),
        object=torch.tensor(owner),
        variant=torch.tensor(variant),
        elevation=torch.tensor(elevation, dtype=torch.float32),
        azimuth=torch.tensor(azimuth, dtype=torch.float32),
        solid=torch.from_numpy(np.stack(spaces)),
        ids=tuple(ids),
    )


class Thing(NamedTuple):
    """A mesh to learn from: `kind` says what it is ("an oak chair", "chair"), `details` what it has."""

    id: str
    mesh: Mesh
    kind: str
    details: tuple[str, ...]


def things(
    rows: pl.DataFrame,
    meshes: Path,
    rendering: RenderingConfig,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> Iterator[Thing]:
    """Training objects, then invented ones. A mesh that cannot be read is reported and left out."""
    of = len(rows) + rendering.invented
    for number, row in enumerate(rows.sort("id").to_dicts()):
        try:
            yield Thing(row["id"], load_mesh(meshes / row["file"], rendering), row["caption"], ())
        except MeshError as error:
            report({"message": f"{row['file']} is left out: {error}"})
        report({"step": number + 1, "of": of, "message": f"rendered {row['id']}"})
    for number in range(rendering.invented):
        id_ = f"{INVENTED}-{number:05d}"
        made = invention(numpy_generator(seed, id_))
        yield Thing(id_, flatten(trimesh.Scene([made.mesh]), rendering), made.kind, made.details)
        report({"step": len(rows) + number + 1, "of": of})


def _versions(
    id_: str, mesh: Mesh, config: BankConfig, seed: int
) -> Iterator[tuple[Mesh, Float[np.ndarray, "3 3"], np.random.Generator]]:
    """Each version of an object: shape, recolouring, and the generator of its views. The first is the object itself."""
    for variant in range(1 if id_.startswith(INVENTED) else config.variants):
        rng = numpy_generator(seed, id_, variant)
        scale, colours = draw_scale(rng, config.stretch), colour_matrix(rng, config.recolour)
        if variant:
            yield mesh.stretched(scale, config.rendering.fit), colours, rng
        else:
            yield mesh, np.eye(3, dtype=np.float32), rng
