"""Giving a model an alias that others rely on, once nothing speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.whole import Audit
from orchestration.lineage.current import Current
from orchestration.lineage.find import step_of
from orchestration.lineage.ledger import MADE, MLFLOW, PROMOTED, Ledger, Row, now
from orchestration.lineage.policy import Policy, objections
from orchestration.lineage.record import Record
from orchestration.publish import register
from orchestration.resources import store
from orchestration.resources.tracking import Tracking
from orchestration.tasks import name_of
from orchestration.versions import git_state
from orchestration.workspace import missing


def obstacles(current: Current, record: Record, policy: Policy, audit: Callable[[], Audit]) -> Iterator[str]:
    """What speaks against promoting the model, cheapest first."""
    row = record.row
    yield from _dirty(record)
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
    told = Row(
        kind=PROMOTED,
        preset=row.preset,
        asset=row.asset,
        about=row.id,
        service=alias,
        reference=reason,
        by=by,
        started=(at := now()),
        ended=at,
    )
    Ledger().append(told)
    store.publish({}, also=[paths.ledger()])
    return told


def _dirty(record: Record) -> Iterator[str]:
    """Code that no commit holds: now, or when anything in the lineage was made."""
    if git_state().diff:
        yield "the working tree is dirty: commit or stash what `git status` shows, so that the promotion has a commit"
    made = record.rows.filter(
        (pl.col("kind") == MADE) & (pl.col("service").is_null() | (pl.col("service") != "adopted"))
    )
    for words, rows in (
        ("was made from a dirty tree", made.filter(pl.col("git_diff").is_not_null())),
        ("was made outside git", made.filter(pl.col("git_commit").is_null())),
    ):
        if len(rows):
            first = rows.row(-1, named=True)
            more = f" and {len(rows) - 1} more in its lineage" if len(rows) > 1 else ""
            yield (
                f"{name_of(first['asset'], first['shard'])}{more} {words}: commit the code, then `orbitforge accept` it "
                "or make it again"
            )
