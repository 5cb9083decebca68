"""The preset's reconstruction models on held-out objects, beside the baselines: pictures, features and surfaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

METHODS = ("lrm_finetuned", "lrm_pretrained", "mean image", "copy of the input")


class Figure(NamedTuple):
    unit: str
    high_is_good: bool


FIGURES = {
    "foreground_psnr": Figure("dB", high_is_good=True),
    "iou": Figure("IoU", high_is_good=True),
    "feature_distance": Figure("distance", high_is_good=False),
    "lpips": Figure("LPIPS", high_is_good=False),
    "chamfer": Figure("length", high_is_good=False),
    "f_score": Figure("F", high_is_good=True),
}


def measure(report: Callable[[str], None]) -> list[Row]:
    """One row for each method and figure that it has; `max_diff` is half the 95 % bootstrap interval over objects.

    Nothing is trained. The baselines are pictures, without a surface; LPIPS is measured where the preset names its
    weights (`losses.lpips`).
    """
    from stages.evaluation.held_out import interval

    here = pipeline.current()
    home = paths.data() / here.preset.name
    for name in METHODS[:2]:
        if not (home / name / "config.json").is_file():
            raise OrbitforgeError(f"{home / name} holds no model yet; run `orbitforge run` first")
    table = held_out_table(home, home / "lrm_pretrained", home / "lrm_finetuned", report)
    rows = []
    for figure, (unit, high_is_good) in FIGURES.items():
        for method in METHODS:
            own = table.filter(pl.col("method") == method).drop_nulls(figure) if figure in table.columns else None
            if own is not None and len(own):
                found = interval(own, figure)
                spread = (found["high"] - found["low"]) / 2
                rows.append(Row(f"{method}: {figure}", unit, found["mean"], None, None, spread, at_least=high_is_good))
    return rows


def held_out_table(home: Path, pretrained: Path, finetuned: Path, report: Callable[[str], Any]) -> pl.DataFrame:
    """method, id, object and the FIGURES of two trained models and the baselines, on the held-out objects of `home`.

    Features are those of the base encoder; objects whose mesh is not there (invented ones) have no surface figures.
    """
    from models.checkpoints import load
    from models.config import EncoderConfig
    from models.encoder import Encoder
    from models.perceptual import TokenDistance
    from stages.evaluation.geometry import geometry, held_out_surfaces
    from stages.evaluation.held_out import baselines, figures, single_image
    from stages.objects.splits import HELD_OUT, TRAIN
    from stages.perceptual import lpips
    from stages.reconstruction.data import rendered_orbits
    from stages.reconstruction.load import load as load_lrm

    here = pipeline.current()
    protocol, mesh = here.preset.finetune.protocol, here.preset.finetune.export.mesh
    manifest = pl.read_parquet(home / "rendered_manifest" / "manifest.parquet")
    training, held_out = (rendered_orbits(manifest, home / "rendered_views", split) for split in (TRAIN, HELD_OUT))
    meshes = paths.data() / here.preset.source.folder
    surfaces = held_out_surfaces(here.table("objects"), meshes, here.preset.rendering, held_out.ids)
    distance = TokenDistance(load(paths.data() / "base_models" / "encoder", EncoderConfig, Encoder))
    weights = here.preset.finetune.losses.lpips or here.preset.pretrain.losses.lpips
    learned = lpips(weights) if weights else None
    models = {"lrm_finetuned": load_lrm(finetuned).lrm, "lrm_pretrained": load_lrm(pretrained).lrm}
    made = {name: single_image(model, held_out, protocol) for name, model in models.items()}
    tables = []
    for method, predictions in {**made, **baselines(training, held_out, protocol)}.items():
        report(f"{method}: {len(held_out.ids)} held-out orbits")
        table = figures(predictions, held_out, protocol, distance)
        if learned:
            own = figures(predictions, held_out, protocol, learned)["feature_distance"]
            table = table.with_columns(own.alias("lpips"))
        surface = geometry(models.get(method), held_out, protocol, surfaces, mesh)
        if method in models and (missing := surface["chamfer"].null_count()):
            report(f"{method}: no surface in {missing} of {len(surface)} orbits, which its Chamfer and F leave out")
        tables.append(
            table.join(surface.drop("object"), on="id", how="left").select(pl.lit(method).alias("method"), pl.all())
        )
    return pl.concat(tables)
