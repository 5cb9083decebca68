"""Giving a model an alias that others rely on, once nothing speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.whole import Audit
from orchestration.lineage.current import Current
from orchestration.lineage.find import step_of
from orchestration.lineage.ledger import MADE, MLFLOW, PROMOTED, Ledger, Row, about
from orchestration.lineage.policy import Policy, objections
from orchestration.lineage.record import Record
from orchestration.publish import register
from orchestration.resources import store
from orchestration.resources.tracking import Tracking
from orchestration.steps import Step
from orchestration.tasks import name_of
from orchestration.versions import code_version, git_state
from orchestration.workspace import missing


def obstacles(current: Current, record: Record, policy: Policy, audit: Callable[[], Audit]) -> Iterator[str]:
    """What speaks against promoting the model, cheapest first."""
    row = record.row
    yield from _dirty(current, record)
    if lost := missing(row.files):
        yield f"{len(lost)} of its {len(row.files)} files are not in the cache, first {lost[0].path}: `dvc pull` them"
    yield from objections(policy, record)
    if found := audit().broken:
        yield f"the audit found {len(found)} things broken, first {found[0]}"


def promote(current: Current, row: Row, *, alias: str, reason: str, by: str) -> Row:
    """Set the alias in MLflow and write down who did it and why. The caller has asked for `obstacles`."""
    if step_of(current, row).kind != "model":
        raise OrbitforgeError(f"{name_of(row.asset, row.shard)} is no model; only models are promoted")
    tracking = Tracking()
    tracking.check()
    reference = current.published(MLFLOW).get(row.id) or register(row, tracking).reference or ""
    name, _, version = reference.removeprefix("models:/").partition("/")
    tracking.promote(name, version, alias, {"promoted.by": by, "promoted.reason": reason, "promoted.to": alias})
    told = about(row, PROMOTED, service=alias, reference=reason, by=by)
    Ledger().append(told)
    store.publish({}, also=[paths.ledger()])
    return told


def _dirty(current: Current, record: Record) -> Iterator[str]:
    """Code that no commit holds: now, or when anything in the lineage was made by other code than that of now."""
    if git_state().diff:
        yield "the working tree is dirty: commit or stash what `git status` shows, so that the code has a commit"
    adopted = pl.col("service").is_not_null() & (pl.col("service") == "adopted")
    unsure = record.rows.filter(
        (pl.col("kind") == MADE) & ~adopted & (pl.col("git_diff").is_not_null() | pl.col("git_commit").is_null())
    )
    for row in unsure.iter_rows(named=True):
        step = current.pipeline.find(row["asset"])
        if not isinstance(step, Step) or code_version(step.code) != row["code"]:
            how = "from a dirty tree" if row["git_commit"] else "outside git"
            yield (
                f"{name_of(row['asset'], row['shard'])} was made {how} by code that this commit does not hold: go back "
                "to that code and commit it, or make it again"
            )
            return
