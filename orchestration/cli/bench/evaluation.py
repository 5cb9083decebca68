"""The reconstruction model on held-out objects over three training seeds, beside its baselines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.reconstruction import FIGURES, METHODS, held_out_table
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SEEDS = (1, 2)
"""Beside the preset's own, whose model is the registered one."""
LEAD, OVERLAP = 4.0, 0.75
"""Wanted: decibels of foreground PSNR above either baseline, and silhouette IoU."""


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
    over_seeds = summary(tables)
    report(as_markdown(over_seeds))
    means = {(row["method"], row["figure"]): row["mean"] for row in over_seeds.to_dicts()}
    best = max(means[name, "foreground_psnr"] for name in METHODS[2:])
    targets = {("lrm_finetuned", "foreground_psnr"): best + LEAD, ("lrm_finetuned", "iou"): OVERLAP}
    return [
        Row(
            f"{method}: {figure}",
            FIGURES[figure].unit,
            mean,
            means[METHODS[1], figure] if method == METHODS[0] else None,
            targets.get((method, figure)),
            spread,
            at_least=FIGURES[figure].high_is_good,
        )
        for method, figure, mean, spread in over_seeds.iter_rows()
    ]


def summary(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """method, figure, mean and spread (half of largest less smallest) over the seeds, a table of `held_out_table` each;
    every object counts once. In the order of METHODS and FIGURES; what a method has no figure of is left out."""
    figures = [figure for figure in FIGURES if figure in tables[0].columns]
    of_objects = pl.concat(
        table.group_by("method", "object").agg(pl.col(figures).mean()).with_columns(seed=pl.lit(number))
        for number, table in enumerate(tables)
    )
    of_seeds = of_objects.group_by("method", "seed").agg(pl.col(figures).mean())
    long = of_seeds.unpivot(figures, index=["method", "seed"], variable_name="figure").drop_nulls("value")
    value = pl.col("value")
    found = long.group_by("method", "figure").agg(
        value.mean().alias("mean"), ((value.max() - value.min()) / 2).alias("spread")
    )
    return found.sort(pl.col("method").cast(pl.Enum(METHODS)), pl.col("figure").cast(pl.Enum(figures)))


def as_markdown(found: pl.DataFrame) -> str:
    """A row a method, a column a figure: mean ± spread."""
    figures = found["figure"].unique(maintain_order=True).to_list()
    cells = {(method, figure): f"{mean:.3g} ± {spread:.2g}" for method, figure, mean, spread in found.iter_rows()}
    lines = [["", *figures], ["---"] * (1 + len(figures))]
    lines += [[method, *(cells.get((method, figure), "") for figure in figures)] for method in METHODS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
