"""After the loss of Dagster's or MLflow's database: both are told again what ledger and cache know."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from orchestration import paths
from orchestration.lineage.current import Current, input_versions
from orchestration.lineage.ledger import MADE, MLFLOW, Row
from orchestration.lineage.promoted import promoted
from orchestration.lineage.reconcile import tell_dagster
from orchestration.observe import observe_sources
from orchestration.pipeline import Pipeline
from orchestration.publish import curve, register
from orchestration.resources.tracking import Tracking
from orchestration.workspace import link_inputs, missing, remove

if TYPE_CHECKING:
    import dagster as dg


def restore(pipeline: Pipeline, instance: dg.DagsterInstance, tracking: Tracking) -> Iterator[str]:
    """Say line by line what was told. What is known already stays; repeat it as often as you like.

    MLflow gives new numbers: versions and runs carry the old ones as the tags `original.version` and `original.run`.
    Dagster gets the newest event of each artifact of this preset; its runs are lost.
    """
    tracking.check()
    current = Current(pipeline)
    yield from _tell_mlflow(current, tracking)
    observe_sources(instance, pipeline)
    rows = [row for step in pipeline.steps for shard in pipeline.shards(step) if (row := current.row(step.name, shard))]
    yield from tell_dagster(pipeline, current, rows, instance)


def _tell_mlflow(current: Current, tracking: Tracking) -> Iterator[str]:
    """Every model version there ever was, oldest first, so that numbers grow as they did."""
    models = [step.name for step in current.pipeline.steps if step.kind == "model"]
    made = (pl.col("kind") == MADE) & pl.col("asset").is_in(models)
    ids = current.ledger.query(lambda rows: rows.filter(made).select("id", "ended").unique()).sort("ended", "id")["id"]
    before = current.published(MLFLOW)
    versions: dict[str, str] = {}
    for row in current.rows_of_ids(ids):
        name = f"{row.preset}-{row.asset}"
        if version := tracking.known(name, row.version):
            versions[row.id] = version
        elif missing(row.files):
            yield f"{name} of row {row.id} is not in the cache: not registered; `dvc pull` it and restore again"
        else:
            reference = _register(row, before.get(row.id), tracking)
            versions[row.id] = reference.rpartition("/")[2]
            was = f", it was {before[row.id]}" if row.id in before else ""
            yield f"{name} is registered again as {reference}{was}"
    for (preset, asset, alias), row_id in promoted(current).items():
        if row_id in versions and tracking.alias(f"{preset}-{asset}", alias) != versions[row_id]:
            tracking.promote(f"{preset}-{asset}", versions[row_id], alias, {})
            yield f"{preset}-{asset} version {versions[row_id]} is {alias} again"


def _register(row: Row, before: str | None, tracking: Tracking) -> str:
    """A run with the parameters and the curve of then, and the version that belongs to it."""
    name = f"{row.preset}-{row.asset}"
    original = {"original.run": row.mlflow_run or "", "original.version": before or ""}
    run = tracking.start(
        name,
        parameters=row.config,
        tags={"dvc.asset": row.asset, "code_version": row.code, "config_hash": row.config_hash, **original},
        datasets=input_versions(row.inputs),
    )
    tracking.log_curve(run, curve(row))
    tracking.finish(run)
    folder = paths.work() / "observed" / uuid.uuid4().hex
    try:
        link_inputs(folder, row.files, name)
        return register(row, tracking, folder=folder, run=run, more=original).reference or ""
    finally:
        remove(folder)
