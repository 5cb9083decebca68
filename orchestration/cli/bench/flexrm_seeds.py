"""FlexRM on held-out objects over three training seeds: from more and more views, and from spoiled pools."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SEEDS = (1, 2)
"""Beside the preset's own, whose model is the registered one."""
RISING = (1, 4, 16)
"""Numbers of views between which quality has to rise."""


def seeds(report: Callable[[str], None]) -> list[Row]:
    """Trains the model again for each further seed; figures are means over held-out objects, then over seeds.

    A number of views is held against the one before it in `RISING`, a curated pool against the same one uncurated.
    `max_diff` is half the spread between the seeds.
    """
    here = pipeline.current()
    home = paths.data() / here.preset.name
    finished = home / "flexrm_evaluation" / "figures.parquet"
    if not finished.is_file():
        raise OrbitforgeError(f"{finished} is missing; run `orbitforge flexiview` first")
    with tempfile.TemporaryDirectory(prefix="orbitforge-bench-") as folder:
        tables = [pl.read_parquet(finished)] + [_trained(home, seed, Path(folder), report) for seed in SEEDS]
    found = over_seeds(tables)
    report(as_markdown(found))
    return compared_rows(found, len(tables))


def compared_rows(found: pl.DataFrame, seeds: int) -> list[Row]:
    """The rows of what `over_seeds` found."""
    from stages.flexrm.evaluate import CLEAN, CURATED, UNCURATED

    means = {(inputs, views): mean for inputs, views, mean, _ in found.iter_rows()}
    before = {(CLEAN, views): means.get((CLEAN, least)) for least, views in pairwise(RISING)}
    before[CURATED, 0] = means.get((UNCURATED, 0))
    return [
        Row(
            f"foreground PSNR from {f'{views} views' if views else inputs}, {seeds} seeds",
            "dB",
            mean,
            before.get((inputs, views)),
            before.get((inputs, views)),
            spread,
            at_least=True,
        )
        for inputs, views, mean, spread in found.iter_rows()
    ]


def over_seeds(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """inputs, views (0 for pools, which differ), mean and spread (half of largest less smallest) of foreground PSNR
    over the seeds, a table of figures each; every object counts once."""
    from stages.flexrm.evaluate import CLEAN

    value = pl.col("foreground_psnr")
    views = pl.when(pl.col("inputs") == CLEAN).then("views").otherwise(0).alias("views")
    of_objects = pl.concat(
        table.group_by("inputs", views, "object").agg(value.mean()).with_columns(seed=pl.lit(number))
        for number, table in enumerate(tables)
    )
    of_seeds = of_objects.group_by("inputs", "views", "seed").agg(value.mean())
    found = of_seeds.group_by("inputs", "views").agg(
        value.mean().alias("mean"), ((value.max() - value.min()) / 2).alias("spread")
    )
    return found.sort("inputs", "views")


def as_markdown(found: pl.DataFrame) -> str:
    lines = ["| views | foreground PSNR, dB |", "|---|---|"]
    lines += [f"| {views or inputs} | {mean:.2f} ± {spread:.2f} |" for inputs, views, mean, spread in found.iter_rows()]
    return "\n".join(lines)


def _trained(home: Path, seed: int, folder: Path, report: Callable[[str], None]) -> pl.DataFrame:
    from stages.curation.curate import load_curator
    from stages.flexrm.evaluate import evaluate_flexrm
    from stages.flexrm.make import make_flexrm

    preset = pipeline.current().preset
    encoder = paths.data() / "base_models" / "encoder"
    model, figures = folder / f"flexrm-{seed}", folder / f"evaluation-{seed}"
    for output in (model, figures):
        output.mkdir()
    report(f"seed {seed}: training both stages again")
    make_flexrm(
        home / "ring_manifest" / "manifest.parquet",
        home / "ring_views",
        home / "curated_manifest" / "manifest.parquet",
        home / "curated_views",
        encoder,
        model,
        folder / f"scratch-{seed}",
        preset.flexrm,
        preset.quality.whiteness,
        seed=seed,
        report=lambda event: None,
    )
    curate = load_curator(home / "quality_classifier", encoder, preset.curation, preset.quality)
    evaluate_flexrm(
        model,
        home / "ring_manifest" / "manifest.parquet",
        home / "ring_views",
        figures,
        preset.flexrm,
        preset.rings,
        lambda pool: curate(pool).kept.nonzero()[0].tolist(),
        seed=seed,
        report=lambda event: None,
    )
    return pl.read_parquet(figures / "figures.parquet")
