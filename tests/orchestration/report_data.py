"""Small artifacts in the form that `evaluation` and `scaling_trends` leave on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from models.gaussians import Gaussians
from stages.reconstruction.splats import write_splats
from stages.scaling.tables import FITS, PLACES

PROTOCOL = "held-out-3f2a91bc"
UNITS = {"foreground_psnr": ("dB", True), "iou": ("IoU", True), "seconds": ("s", False), "dino": ("", True)}
MEANS = {"model": (14.12, 0.695, 0.41, None), "mean image": (9.93, 0.449, None, None)}


def write_evaluation(folder: Path, *, model: str = "model", word: str = "a red box", creator: str = "Ann") -> None:
    """Two models, two objects; no DINO weights; the gallery has a mesh with a texture and one with many faces."""
    (folder / "gallery").mkdir(parents=True)
    content = {"kind": "single-image", "note": word}
    write_json(folder / "protocol.json", {"id": "held-out", "hash": "3f2a91bc", "name": PROTOCOL, "content": content})
    values, means = [], []
    for name, of_model in zip((model, "mean image"), MEANS.values(), strict=True):
        for (metric, (unit, high)), mean in zip(UNITS.items(), of_model, strict=True):
            given = (None, None, None) if mean is None else (mean, mean * 0.9, mean * 1.1)
            count = 0 if mean is None else 2
            means.append((name, metric, unit, high, *given, count, 2 - count, PROTOCOL))
            values += [(name, each, f"{each}-0-0", metric, mean, None if count else word) for each in ("box", "ball")]
    pl.DataFrame(values, ["model", "object", "id", "metric", "value", "reason"], orient="row").write_parquet(
        folder / "table.parquet"
    )
    columns = ("model", "metric", "unit", "high_is_good", "mean", "low", "high", "objects", "failed", "protocol")
    pl.DataFrame(means, columns, orient="row").write_parquet(folder / "means.parquet")
    compared = [
        (model, "mean image", "foreground_psnr", 4.19, 2.9, 5.5, 0.999, 2, PROTOCOL),
        (model, "mean image", "iou", -0.246, -0.3, -0.1, 0.01, 2, PROTOCOL),
        ("mean image", model, "iou", 0.246, 0.1, 0.3, 0.5, 2, PROTOCOL),
    ]
    columns = ("model", "against", "metric", "difference", "low", "high", "probability", "objects", "protocol")
    pl.DataFrame(compared, columns, orient="row").write_parquet(folder / "comparisons.parquet")
    textured_box().export(folder / "gallery" / "box-0-0.glb")
    coloured_ball().export(folder / "gallery" / "ball-0-0.glb")
    gallery = []
    for name in ("box", "ball"):
        noise = np.random.default_rng(0).integers(0, 255, (32, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "gallery" / f"{name}-0-0.png")
        entry = {"id": f"{name}-0-0", "object": name, "caption": f"{word} {name}", "creator": creator}
        files = {"picture": f"gallery/{name}-0-0.png", "mesh": f"gallery/{name}-0-0.glb"}
        gallery.append(entry | {"licence": "CC-BY-4.0"} | files)
    write_json(folder / "gallery.json", gallery)


def write_trends(folder: Path, *, word: str = "both") -> None:
    """Three sizes and an ablation with two seeds, one experiment with one; a drawing of the first."""
    folder.mkdir(parents=True)
    points = [
        (
            "synthetic size",
            f"n{size}",
            f"{size} clips",
            float(size),
            seed,
            "foreground_psnr",
            11 + size / 100 + seed / 10,
        )
        for size in (12, 24, 48)
        for seed in (0, 1)
    ]
    points += [
        ("sources", point, label, None, seed, "iou", mean + seed / 50)
        for point, label, mean in (("a", "3D only", 0.5), ("b", word, 0.6))
        for seed in (0, 1)
    ]
    points.append(("filter", "f", "filtered", None, 0, "iou", 0.6))
    rows = [(*point, point[-1] - 0.1, point[-1] + 0.1, 11, PROTOCOL, 300) for point in points]
    pl.DataFrame(rows, PLACES, orient="row").write_parquet(folder / "points.parquet")
    fit = ("synthetic size", "foreground_psnr", 0.18, 0.1, 0.26, 1.0, 3, 11, 2)
    pl.DataFrame([fit], FITS, orient="row").write_parquet(folder / "fits.parquet")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="200"><circle cx="90" cy="90" r="40"/></svg>'
    (folder / "trend.svg").write_text(svg)


def write_flexrm(folder: Path, *, word: str = "clean", count: int = 3000) -> None:
    """Figures of two objects that rise with the number of views, and a ball as splats, red above and blue below."""
    folder.mkdir(parents=True)
    rows = [
        (inputs, views, name, 18 + gain + views / 4, 12 + gain + views / 4, 0.5 + views / 100 + gain / 10)
        for inputs, best in ((word, 1.0), ("all", 0.0))
        for views in (16, 1, 4)
        for name, gain in (("box", best), ("ball", best + 1))
    ]
    columns = ("inputs", "views", "object", "psnr", "foreground_psnr", "iou")
    pl.DataFrame(rows, columns, orient="row").write_parquet(folder / "figures.parquet")
    write_splats(ball_of_splats(count), folder / "splats.ply", {"object": word})


def ball_of_splats(count: int = 3000) -> Gaussians:
    """On a sphere around the origin, red where z is positive and blue below; the last tenth cannot be seen."""
    draw = torch.Generator().manual_seed(0)
    places = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=-1) * 0.6
    colours = torch.where(places[:, 2:] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9]))
    opacities = torch.where(torch.arange(count) < 0.9 * count, 0.9, 0.01)
    scales = torch.tensor([0.06, 0.03, 0.04]).expand(count, 3)
    return Gaussians(places, scales, torch.randn(count, 4, generator=draw), opacities, colours)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def textured_box() -> trimesh.Trimesh:
    """Its texture is red above and blue below."""
    box = trimesh.creation.box((1, 0.5, 0.25))
    uv = np.stack([box.vertices[:, 0] + 0.5, 2 * box.vertices[:, 1] + 0.5], -1) * 0.5 + 0.25
    texture = np.zeros((600, 300, 3), dtype=np.uint8)
    texture[:300, :, 0] = texture[300:, :, 2] = 220
    material = PBRMaterial(baseColorTexture=Image.fromarray(texture))
    box.visual = TextureVisuals(uv=uv, material=material)
    return box


def coloured_ball() -> trimesh.Trimesh:
    """20,480 faces, green where y is positive."""
    ball = trimesh.creation.icosphere(subdivisions=5, radius=2.0)
    colours = np.tile(np.uint8([40, 40, 40, 255]), (len(ball.vertices), 1))
    colours[ball.vertices[:, 1] > 0, 1] = 200
    ball.visual.vertex_colors = colours  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    return ball
