"""Rendered 3D data: each object becomes orbits of views with cameras, or a row of the quarantine table.

Invented objects may be rendered beside those of the shard, so that few meshes are not all the shapes there are.

render_shard(objects, meshes, output, config, *, seed, report, limits)
    -> output/views.tar (one sample an orbit, on request with depth and normals), output/quarantine.parquet (id,
       reason, error)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import trimesh

from stages.objects.invented import CREATOR, INVENTED, LICENCE, invent
from stages.objects.splits import TRAIN, split_of
from stages.rendering.cameras import draw_cameras
from stages.rendering.config import RenderingConfig
from stages.rendering.loader import load, sandboxed
from stages.rendering.mesh import Mesh, MeshError, flatten
from stages.rendering.rasterise import Views, render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.sandbox import Limits, Sandbox
from stages.seeds import numpy_generator
from stages.shards import Sample, ShardWriter

QUARANTINE = {"id": pl.String, "reason": pl.String, "error": pl.String}


def render_shard(
    objects: pl.DataFrame,
    meshes: Path,
    output: Path,
    config: RenderingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    limits: Limits | None = None,
) -> None:
    """Render the rows of one shard; `file` is below `meshes`. A mesh that fails leaves its neighbours alone.

    Rows may have a `rotation`, see `load`, and a `reason` for which they are quarantined as they are.

    Files are read in a child process, each within `limits`; memory holds one object at a time.
    """
    quarantine: list[dict[str, str]] = []
    with ShardWriter(output / "views.tar") as shard, Sandbox(load, limits) as loader:
        for number, row in enumerate(objects.sort("id").to_dicts()):
            try:
                if row.get("reason"):
                    raise MeshError(row["reason"])
                loaded = sandboxed(loader, meshes / row["file"], config, row.get("rotation"))
                row = row | {"geometry": loaded.geometry}
                for sample in list(render_object(loaded.mesh, row, config, seed)):  # all of its orbits, or none
                    shard.add(sample)
            except MeshError as error:
                quarantine.append(quarantined(row["id"], error))
            report({"step": number + 1, "of": len(objects) + config.invented})
        for number in range(config.invented):
            row = invented_row(f"{objects['shard'][0]}-{number:04d}")
            mesh = flatten(trimesh.Scene([invent(numpy_generator(seed, row["id"]))]), config)
            for sample in render_object(mesh, row, config.model_copy(update={"variants": 1}), seed):
                shard.add(sample)
            report({"step": len(objects) + number + 1, "of": len(objects) + config.invented})
    pl.DataFrame(quarantine, schema=QUARANTINE).write_parquet(output / "quarantine.parquet")


def quarantined(id_: str, error: MeshError) -> dict[str, str]:
    """The row of what cannot be rendered: a reason to count by, and what exactly was found."""
    reason, _, detail = str(error).partition(": ")
    return {"id": id_, "reason": reason, "error": detail}


def invented_row(number: str) -> dict[str, Any]:
    """What stands in the source table for other objects; its only parents are code and seed."""
    return {
        "id": f"{INVENTED}-{number}",
        "caption": "an invented object",
        "licence": LICENCE,
        "creator": CREATOR,
        "split": split_of(CREATOR),
        "md5": None,
        "geometry": None,
    }


def render_object(mesh: Mesh, row: dict[str, Any], config: RenderingConfig, seed: int) -> Iterator[Sample]:
    """The orbits of one object: `variants` versions of it if it may be trained on, `orbits` of each.

    The cameras of each are drawn from (seed, object, version, orbit) alone, see `draw_cameras`.
    Raises MeshError when a view shows nothing.
    """
    for variant in range(config.variants if row["split"] == TRAIN else 1):
        shape, colours = mesh, np.eye(3, dtype=np.float32)
        if variant:
            rng = numpy_generator(seed, row["id"], variant)
            shape = mesh.stretched(draw_scale(rng, config.stretch), config.fit)
            colours = colour_matrix(rng, config.recolour)
        for orbit in range(config.orbits):
            cameras, elevation = draw_cameras(config, numpy_generator(seed, row["id"], variant, orbit))
            seen = render(shape, cameras, config)
            views = recoloured(seen.rgba, colours)
            if not views[..., 3].any(axis=(1, 2)).all():
                empty = int((~views[..., 3].any(axis=(1, 2))).sum())
                raise MeshError(f"empty views: nothing to see in {empty} of {len(views)}")
            facts = {key: row[key] for key in ("caption", "licence", "creator", "split")}
            meta = {
                **facts,
                "object": row["id"],
                "variant": variant,
                "orbit": orbit,
                "cameras": cameras.numbers().tolist(),
                "elevation": elevation,
                "coverage": round(float(views[..., 3].mean()) / 255, 5),
                "size": config.size,
                "geometry": row["geometry"],
                "radius": config.radius,
                "seed": seed,
                "parents": [row["md5"]] if row["md5"] else [],
            }
            files = {"geometry.npz": packed(seen)} if config.geometry else {}
            yield Sample(f"{row['id']}-{variant}-{orbit}", views, meta, files)


def packed(seen: Views) -> bytes:
    """An .npz of `depth` [v, h, w] and `normals` [v, h, w, 3], see `Views`, in half precision; bytes repeat."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=seen.depth.astype(np.float16), normals=seen.normals.astype(np.float16))
    return buffer.getvalue()
