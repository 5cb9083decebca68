"""The reconstruction model on held-out objects over three training seeds, beside its baselines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.reconstruction import METHODS, held_out_table
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SEEDS = (1, 2)
"""Beside the preset's own, whose model is the registered one."""
LEAD, OVERLAP = 4.0, 0.75
"""Wanted: decibels of foreground PSNR above either baseline, and silhouette IoU."""
FIGURES = {
    "foreground_psnr": "dB",
    "iou": "IoU",
    "feature_distance": "distance",
    "chamfer": "length",
    "f_score": "F",
}
"""And their units."""


def measure(report: Callable[[str], None]) -> list[Row]:
    """Trains both stages again for each further seed; figures are means over held-out objects, then over seeds.

    `max_diff` is half the spread between the seeds.
    """
    here = pipeline.current()
    home = paths.data() / here.preset.name
    finished = home / "lrm_finetuned" / "metrics.parquet"
    if not finished.is_file():
        raise OrbitforgeError(f"{finished} is missing; run `orbitforge run` first")
    with tempfile.TemporaryDirectory(prefix="orbitforge-bench-") as folder:
        registered = held_out_table(home, home / "lrm_pretrained", home / "lrm_finetuned", report)
        tables = [registered] + [_trained(home, seed, Path(folder), report) for seed in SEEDS]
    by_seed = [
        table.select("method", "object", *FIGURES)
        .group_by("method", "object")
        .mean()
        .group_by("method")
        .agg(pl.col(*FIGURES).mean())
        for table in tables
    ]

    def over_seeds(method: str, figure: str) -> np.ndarray:
        return np.array([table.filter(pl.col("method") == method)[figure].item() for table in by_seed])

    def row(method: str, figure: str, peer: float | None = None, target: float | None = None) -> Row:
        values = over_seeds(method, figure)
        spread = float(values.max() - values.min()) / 2
        better = figure not in ("feature_distance", "chamfer")
        return Row(f"{method}: {figure}", FIGURES[figure], float(values.mean()), peer, target, spread, at_least=better)

    mean_image, copied = (float(over_seeds(name, "foreground_psnr").mean()) for name in METHODS[2:])
    pretrained = float(over_seeds("lrm_pretrained", "foreground_psnr").mean())
    pictures, surfaces = ("foreground_psnr", "iou", "feature_distance"), ("chamfer", "f_score")
    return [
        row("lrm_finetuned", "foreground_psnr", pretrained, max(mean_image, copied) + LEAD),
        row("lrm_finetuned", "iou", None, OVERLAP),
        *(row("lrm_finetuned", figure) for figure in (pictures[2], *surfaces)),
        *(row("lrm_pretrained", figure) for figure in (*pictures, *surfaces)),
        *(row(method, figure) for figure in pictures for method in METHODS[2:]),  # which have no surface
    ]


def _trained(home: Path, seed: int, folder: Path, report: Callable[[str], None]) -> pl.DataFrame:
    from stages.reconstruction.train import finetune, pretrain

    preset = pipeline.current().preset
    pretrained, finetuned = folder / f"pretrained-{seed}", folder / f"finetuned-{seed}"
    for output in (pretrained, finetuned):
        output.mkdir()
    report(f"seed {seed}: training both stages again")
    pretrain(
        home / "corpus_manifest" / "manifest.parquet",
        home / "synthetic_corpus",
        home / "quality_labels",
        paths.data() / "base_models" / "encoder",
        pretrained,
        folder / f"scratch-pretrained-{seed}",
        preset.pretrain,
        seed=seed,
        report=lambda event: None,
    )
    finetune(
        home / "rendered_manifest" / "manifest.parquet",
        home / "rendered_views",
        pretrained,
        finetuned,
        folder / f"scratch-finetuned-{seed}",
        preset.finetune,
        seed=seed,
        report=lambda event: None,
    )
    return held_out_table(home, pretrained, finetuned, report)
