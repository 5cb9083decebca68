"""A protocol and what is to be evaluated -> tables, comparisons and a gallery.

evaluate(protocol, cases, subjects, judges, output, config, *, report)
    -> output/protocol.json, table.parquet, means.parquet, comparisons.parquet, gallery.json, gallery/
evaluate_models(models, manifest, shards, source, encoder, output, config, rendering, *, report)
    -> the same of models in folders, on rendered objects

Every method has a row for every metric and case: a value, or the reason why there is none. An object counts in a mean
where each of its cases has a value, otherwise in `failed`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from stages.errors import InputError
from stages.evaluation.cases import Case, Cases, held_out_cases
from stages.evaluation.config import EvaluationConfig
from stages.evaluation.gallery import show
from stages.evaluation.metrics import (
    COST,
    METRICS,
    SURFACE,
    Figure,
    Judges,
    likeness_figures,
    load_judges,
    surface_figures,
    view_figures,
)
from stages.evaluation.protocols import Pictures, SingleImage, Text, sealed
from stages.evaluation.statistics import compare, interval
from stages.evaluation.subjects import CopyOfInput, Made, MeanImage, Model, Subject
from stages.evaluation.tables import COMPARISONS, MEANS, TABLE
from stages.reconstruction.asset import Reconstructor
from stages.reconstruction.config import MeshConfig
from stages.reconstruction.load import load
from stages.rendering.config import RenderingConfig

Row = dict[str, Any]
Report = Callable[[dict[str, Any]], None]
MOST = 4
"""Cases that are looked at together; each holds the memory of one asset's views."""


def evaluate(
    protocol: SingleImage | Text | Pictures,
    cases: Cases,
    subjects: Sequence[Subject],
    judges: Judges,
    output: Path,
    config: EvaluationConfig,
    *,
    report: Report,
    workers: int | None = None,
) -> pl.DataFrame:
    """Write the files named above for `subjects`, and the baselines where views have a truth; return the means.

    `workers` threads share the cases (by default one a processor, at most MOST) and change no figure. The gallery shows
    the first subject. Raises InputError when there is no case or no subject.
    """
    if not cases.cases:
        raise InputError(f"protocol {protocol.id} is empty: there is nothing to reconstruct")
    if not subjects:
        raise InputError("no model to evaluate; name one")
    metrics = metrics_of(protocol, judges, cost=config.cost)
    names = [subject.name for subject in subjects]
    baselines: list[Subject] = [MeanImage(cases.mean), CopyOfInput()] if isinstance(protocol, SingleImage) else []
    shown = _shown(cases.cases, config.gallery)
    rows: list[Row] = []
    gallery: list[Row] = []
    (output / "gallery").mkdir(parents=True, exist_ok=True)
    whole = [*subjects, *baselines]
    for number, subject in enumerate(whole):
        if config.cost:
            _made(subject, cases.cases[0])  # what is compiled or read once is no cost of an asset

        def one(case: Case, subject: Subject = subject, first: bool = number == 0) -> tuple[list[Row], Row | None]:
            made = _made(subject, case)
            told = _rows(subject.name, case, _figures(made, case, judges), metrics)
            return told, show(case, made, output, shown[case.id]) if first and case.id in shown else None

        with ThreadPoolExecutor(workers or _processors()) as pool:  # torch and scipy leave Python's lock alone
            for told, picture in pool.map(one, cases.cases):
                rows += told
                gallery += [picture] if picture else []
                report({"step": len(rows) // len(metrics), "of": len(whole) * len(cases.cases)})
    table = pl.DataFrame(rows, schema=TABLE)
    seal = sealed(protocol, {"data": cases.data, "judges": judges.weights, "cases": len(cases.cases)})
    means = means_of(table, seal["name"])
    table.write_parquet(output / "table.parquet")
    means.write_parquet(output / "means.parquet")
    comparisons_of(table, names, seal["name"]).write_parquet(output / "comparisons.parquet")
    (output / "protocol.json").write_text(json.dumps(seal, indent=1) + "\n")
    (output / "gallery.json").write_text(json.dumps(gallery, indent=1) + "\n")
    return means


def evaluate_models(
    models: Mapping[str, Path],
    manifest: Path,
    shards: Path,
    source: Path,
    encoder: Path,
    output: Path,
    config: EvaluationConfig,
    rendering: RenderingConfig,
    *,
    report: Report,
) -> pl.DataFrame:
    """Evaluate the models in folders (name -> folder) on the objects that the config's protocol asks for; `source`
    holds `objects.parquet` and the meshes that it names, `encoder` the base encoder."""
    objects = pl.read_parquet(source / "objects.parquet")
    cases = held_out_cases(config.protocol, pl.read_parquet(manifest), shards, objects, source, rendering)
    subjects = [model_of(name, load(folder), config.mesh) for name, folder in models.items()]
    judges = load_judges(config.judges, encoder)
    return evaluate(config.protocol, cases, subjects, judges, output, config, report=report)


def model_of(name: str, found: Reconstructor, mesh: MeshConfig) -> Model:
    """A loaded model whose surfaces are drawn as the evaluation wants them; a published one keeps its density."""
    if mesh.threshold is None and found.kind != "orbitforge":
        mesh = mesh.model_copy(update={"threshold": found.config.mesh.threshold})
    return Model(name, replace(found, config=found.config.model_copy(update={"mesh": mesh})))


def metrics_of(protocol: SingleImage | Text | Pictures, judges: Judges, *, cost: bool) -> tuple[str, ...]:
    """The metrics that every method has rows of, in the order of METRICS."""
    wanted = {"clip_image", "dino", "encoder_similarity"}
    if isinstance(protocol, SingleImage):
        wanted |= {"psnr", "foreground_psnr", "iou", "ssim", judges.distance_name, "clip_text", *SURFACE}
    elif isinstance(protocol, Text):
        wanted.add("clip_text")
    if cost:
        wanted.update(COST)
    return tuple(name for name in METRICS if name in wanted)


def _processors() -> int:
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _shown(cases: Sequence[Case], count: int) -> dict[str, str]:
    """id -> file name of the cases that the gallery shows."""
    some = cases[:: max(1, -(-len(cases) // count))] if count else []
    found: dict[str, str] = {}
    for case in some:
        stem = re.sub(r"[^\w.-]+", "_", case.id)
        found[case.id] = stem if stem not in found.values() else f"{stem}-{len(found)}"
    return found


def _made(subject: Subject, case: Case) -> Made | str:
    if case.fault:
        return case.fault
    try:
        return subject.show(case)
    except InputError as error:
        return str(error)


def _figures(made: Made | str, case: Case, judges: Judges) -> dict[str, Figure] | str:
    if isinstance(made, str):
        return made
    if not made.views.rgb.isfinite().all():
        return "not finite: views hold NaN or infinity"
    found = likeness_figures(made.views.rgb, case.picture, case.caption, judges)
    if case.truth is not None:
        found |= view_figures(made.views, case.truth, judges) | surface_figures(made.surface, case.surface)
    return found | made.cost


def _rows(model: str, case: Case, figures: dict[str, Figure] | str, metrics: Sequence[str]) -> list[Row]:
    rows = []
    for metric in metrics:
        figure = figures if isinstance(figures, str) else figures[metric]
        value, reason = (None, " ".join(figure.split())) if isinstance(figure, str) else (figure, None)
        rows.append(
            {"model": model, "object": case.object, "id": case.id, "metric": metric}
            | {"value": value, "reason": reason}
        )
    return rows


def by_object(table: pl.DataFrame) -> pl.DataFrame:
    """model, metric, object and value: the mean over the object's cases, null where one of them has none."""
    value = pl.when(pl.col("value").is_null().any()).then(None).otherwise(pl.col("value").mean())
    return table.group_by("model", "metric", "object", maintain_order=True).agg(value.alias("value"))


def means_of(table: pl.DataFrame, protocol: str) -> pl.DataFrame:
    """One row a model and metric, in the order of the table; objects without a value are counted, and no mean hides
    them."""
    rows = []
    for (model, metric), part in by_object(table).group_by("model", "metric", maintain_order=True):
        values = part["value"].drop_nulls().to_numpy()
        found = interval(values) if len(values) else (None, None, None)
        unit, high_is_good = METRICS[str(metric)]
        counted = (len(values), len(part) - len(values), protocol)
        rows.append((model, metric, unit, high_is_good, *found, *counted))
    return pl.DataFrame(rows, schema=MEANS, orient="row")


def comparisons_of(table: pl.DataFrame, models: Sequence[str], protocol: str) -> pl.DataFrame:
    """Each of `models` against every other method, on the objects that both have a value for."""
    values = by_object(table).drop_nulls("value")
    rows = []
    for model in models:
        for other in values["model"].unique(maintain_order=True):
            if other == model:
                continue
            pairs = values.filter(pl.col("model") == model).join(
                values.filter(pl.col("model") == other), on=("metric", "object"), maintain_order="left"
            )
            for (metric,), part in pairs.group_by("metric", maintain_order=True):
                good = METRICS[str(metric)].high_is_good
                mine, theirs = part["value"].to_numpy(), part["value_right"].to_numpy()
                found = compare(mine, theirs, high_is_good=good)
                rows.append((model, other, metric, *found, len(part), protocol))
    return pl.DataFrame(rows, schema=COMPARISONS, orient="row")
