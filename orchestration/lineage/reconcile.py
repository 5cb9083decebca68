"""After a crash: the ledger is the truth, the rest is brought in line with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestration.pipeline import Pipeline

if TYPE_CHECKING:
    import dagster as dg


def reconcile(pipeline: Pipeline, instance: dg.DagsterInstance | None = None) -> list[str]:
    """Complete what a killed run left undone and say so, one line per finding; [] when all is in line.

    Artifacts that are missing from `data/` but whose objects are in the cache are linked again; what lies in
    `data/<preset>/` without a ledger row is moved to `.work/unclaimed/`, never deleted; rows that lack a DVC entry, an
    MLflow version or (with `instance`) a Dagster event get it. Call it before a run; it takes a fraction of a second
    when there is nothing to do.
    """
    raise NotImplementedError
