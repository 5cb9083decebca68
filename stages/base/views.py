"""The bank of rendered views that base trainings draw from, held in memory: rendering is cheaper than reading.

Only objects of the training split enter; the rest are turned away here, whatever table the caller brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float16, Int64, UInt8
from torch import Tensor

from models.camera import Camera
from stages.base.config import BankConfig
from stages.objects.splits import TRAIN, split_of
from stages.rendering.mesh import MeshError, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator


@dataclass(frozen=True)
class Bank:
    """Orbits of views. `rgba` is un-premultiplied; `depth` is along the viewing axis minus the orbit's radius and
    `normals` are in camera axes, both 0 where nothing is. View v of orbit o stands at `azimuth[o] + v * step`."""

    rgba: UInt8[Tensor, "o v h w 4"]
    depth: Float16[Tensor, "o v h w"]
    normals: Float16[Tensor, "o v h w 3"]
    object: Int64[Tensor, " o"]
    variant: Int64[Tensor, " o"]
    elevation: Float[Tensor, " o"]
    azimuth: Float[Tensor, " o"]
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
    ids: list[str] = []
    rows = training_rows(objects).sort("id").to_dicts()
    for number, row in enumerate(rows):
        try:
            mesh = load_mesh(meshes / row["file"], rendering)
        except MeshError as error:
            report({"message": f"{row['file']} is left out: {error}"})
            continue
        ids.append(row["id"])
        for variant in range(config.variants):
            rng = numpy_generator(seed, row["id"], variant)
            scale = draw_scale(rng, config.stretch)
            colours = colour_matrix(rng, config.recolour)
            if variant:
                shaped = mesh.stretched(scale, rendering.fit)
            else:
                shaped, colours = mesh, np.eye(3, dtype=np.float32)
            for _ in range(config.orbits):
                elevation, azimuth = rng.uniform(*rendering.elevation), rng.uniform(0, 360)
                cameras = Camera.orbit(rendering.views, elevation, rendering.radius, rendering.focal, azimuth)
                views = render(shaped, cameras, rendering)
                depth = np.where(views.depth > 0, views.depth - rendering.radius, 0)
                normals = np.einsum("vhwk,vkc->vhwc", views.normals, cameras.pose[:, :3, :3].numpy())
                parts.append(
                    (
                        recoloured(views.rgba, colours),
                        depth.astype(np.float16),
                        normals.astype(np.float16),
                        len(ids) - 1,
                        (len(ids) - 1) * config.variants + variant,
                        elevation,
                        azimuth,
                    )
                )
        report({"step": number + 1, "of": len(rows), "message": f"rendered {row['id']}"})
    if not parts:
        raise ValueError(f"none of {len(rows)} training meshes below {meshes} could be rendered")
    rgba, depth, normals, owner, variant, elevation, azimuth = zip(*parts, strict=True)
    return Bank(
        rgba=torch.from_numpy(np.stack(rgba)),
        depth=torch.from_numpy(np.stack(depth)),
        normals=torch.from_numpy(np.stack(normals)),
        object=torch.tensor(owner),
        variant=torch.tensor(variant),
        elevation=torch.tensor(elevation, dtype=torch.float32),
        azimuth=torch.tensor(azimuth, dtype=torch.float32),
        ids=tuple(ids),
    )
