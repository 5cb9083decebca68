"""Single-image reconstruction on objects by other makers, beside the two baselines that need no model.

The protocol: one fixed input view, all other views of its orbit as truth, white background. Foreground PSNR is taken
over pixels where truth or prediction shows an object, so that background neither helps nor hides; figures are means
over orbits, with a bootstrap interval over objects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.lrm import LRM
from models.perceptual import Distance
from stages.evaluation import statistics
from stages.reconstruction.config import ProtocolConfig
from stages.reconstruction.data import Orbits
from stages.video.sheets import save_sheet

FIGURES = ("psnr", "foreground_psnr", "iou", "feature_distance")
AT_ONCE = 64
"""Views that a network compares together."""


@dataclass(frozen=True)
class Predictions:
    """What a method shows of every view of every orbit: RGB on white and coverage, in 0..1."""

    rgb: Float[Tensor, "n v 3 s s"]
    alpha: Float[Tensor, "n v s s"]


def input_view(orbits: Orbits, protocol: ProtocolConfig) -> int:
    """The view whose camera stands nearest to the protocol's azimuth; orbits share their azimuths."""
    return nearest_view(orbits.cameras[0], protocol.input_azimuth)


def nearest_view(cameras: Camera, azimuth: float) -> int:
    """The one of `cameras` [v] that stands nearest to `azimuth` degrees."""
    position = cameras.pose[:, :2, 3]
    away = (torch.rad2deg(torch.atan2(position[:, 1], position[:, 0])) - azimuth + 180) % 360 - 180
    return int(away.abs().argmin())


def single_image(
    model: LRM,
    orbits: Orbits,
    protocol: ProtocolConfig,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Predictions:
    """Every view of every orbit, reconstructed from the input view alone; `report` hears how many objects are done."""
    view = input_view(orbits, protocol)
    return reconstructed(model, orbits.rgb[:, view].float() / 255, orbits.cameras, view, report)


@torch.no_grad()
def reconstructed(
    model: LRM,
    images: Float[Tensor, "n 3 s s"],
    cameras: Camera,
    view: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Predictions:
    """What all `cameras` [n, v] see of the objects in `images`, each taken by its camera number `view`."""
    model.eval()
    rgb, alpha = [], []
    for row, image in enumerate(images):
        source = cameras[row][view]
        own = source.relative_to(source)
        planes = model.triplane(image[None], Camera(own.pose[None], own.intrinsics[None]))
        seen = model.render(planes, cameras[row].relative_to(source)[None], image.shape[-1])
        rgb.append(seen.rgb[0].clamp(0, 1))
        alpha.append(seen.weight[0, :, 0])
        report({"step": row + 1, "of": len(images), "doing": "measuring on held-out objects"})
    return Predictions(torch.stack(rgb), torch.stack(alpha))


def baselines(training: Orbits, orbits: Orbits, protocol: ProtocolConfig) -> dict[str, Predictions]:
    """The mean of the training objects' views at each azimuth, and the input view again and again."""
    count = len(orbits.ids)
    view = input_view(orbits, protocol)
    mean = Predictions(
        (training.rgb.float().mean(0) / 255).expand(count, -1, -1, -1, -1),
        (training.alpha.float().mean(0) / 255).expand(count, -1, -1, -1),
    )
    copy = Predictions(
        (orbits.rgb[:, view : view + 1].float() / 255).expand(orbits.rgb.shape),
        (orbits.alpha[:, view : view + 1].float() / 255).expand(orbits.alpha.shape),
    )
    return {"mean image": mean, "copy of the input": copy}


@torch.no_grad()
def figures(
    predictions: Predictions, orbits: Orbits, protocol: ProtocolConfig, distance: Distance | None = None
) -> pl.DataFrame:
    """One row an orbit: id, object, psnr and foreground_psnr (dB, errors pooled over views), iou of silhouettes, and
    feature_distance, the mean `distance` of its views; null without one. Where neither truth nor prediction shows an
    object in any view, foreground_psnr and iou are null."""
    others = [view for view in range(orbits.rgb.shape[1]) if view != input_view(orbits, protocol)]
    rows = []
    for row, name in enumerate(orbits.ids):
        made, true = predictions.rgb[row, others], orbits.rgb[row, others].float() / 255
        error = (made - true).square()
        truth, seen = orbits.alpha[row, others] > 127, predictions.alpha[row, others] > 0.5
        either = truth | seen
        shown = bool(either.any())
        foreground = _decibel(error.movedim(1, -1)[either].mean()) if shown else None
        iou = float((truth & seen).sum() / either.sum()) if shown else None
        apart = None if distance is None else _apart(made, true, distance)
        values = (_decibel(error.mean()), foreground, iou, apart)
        rows.append({"id": name, "object": object_of(name), **dict(zip(FIGURES, values, strict=True))})
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(FIGURES, pl.Float64))


def _apart(made: Float[Tensor, "v 3 s s"], true: Float[Tensor, "v 3 s s"], distance: Distance) -> float:
    pairs = zip(made.split(AT_ONCE), true.split(AT_ONCE), strict=True)
    return float(torch.cat([distance(*pair) for pair in pairs]).mean())


def save_figures(
    predictions: Mapping[str, Predictions],
    orbits: Orbits,
    protocol: ProtocolConfig,
    output: Path,
    preview: Path,
    distance: Distance | None = None,
) -> dict[str, float]:
    """Write metrics.parquet (method, id, object, figures), metrics.json (means) and a sheet; return the means.

    The sheet shows input, truth and what the first method made of it.
    """
    tables = [
        figures(made, orbits, protocol, distance).select(pl.lit(method).alias("method"), pl.all())
        for method, made in predictions.items()
    ]
    table = pl.concat(tables)
    table.write_parquet(output / "metrics.parquet")
    summary = {
        method: {
            name: interval(table.filter(pl.col("method") == method), name) for name in FIGURES if table[name].count()
        }
        for method in predictions
    }
    content = {"protocol": protocol_id(protocol), "objects": orbits_objects(orbits), "figures": summary}
    (output / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")
    first = next(iter(predictions.values()))
    view = input_view(orbits, protocol)
    some = slice(None, None, max(1, len(orbits.ids) // 12))
    truth = orbits.rgb.float() / 255
    around = [(view + step) % truth.shape[1] for step in range(0, truth.shape[1], max(1, truth.shape[1] // 8))]
    save_sheet(
        preview / "held-out.png", truth[some, view : view + 1], truth[some][:, around], first.rgb[some][:, around]
    )
    return {f"{method}/{name}": value["mean"] for method, part in summary.items() for name, value in part.items()}


def interval(table: pl.DataFrame, name: str) -> dict[str, float]:
    """Mean over the objects that have a value, its 95 % bootstrap interval, and how many they are."""
    values = table.group_by("object").agg(pl.col(name).mean()).sort("object")[name].drop_nulls().to_numpy()
    return {**statistics.interval(values)._asdict(), "objects": len(values)}


def protocol_id(protocol: ProtocolConfig) -> str:
    """What stands beside every number: equal ids mean equal protocols."""
    digest = hashlib.sha256(protocol.model_dump_json().encode()).hexdigest()[:8]
    return f"single-image-{digest}"


def orbits_objects(orbits: Orbits) -> int:
    return len({object_of(name) for name in orbits.ids})


def object_of(id_: str) -> str:
    """The object of an orbit's id, which ends in its version and its number."""
    return id_.rsplit("-", 2)[0]


def _decibel(squared_error: Tensor) -> float:
    return float(-10 * torch.log10(squared_error.clamp(min=1e-12)))
