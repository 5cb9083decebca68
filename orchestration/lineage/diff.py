"""What lies between two versions: source rows, labels, verdicts on clips, config, code, environment, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from orchestration.lineage.current import Current
from orchestration.lineage.drift import MANIFEST, drift_between
from orchestration.lineage.ledger import Row
from orchestration.lineage.record import Record
from orchestration.lineage.staleness import config_reasons
from orchestration.resources import store


@dataclass(frozen=True)
class Changed:
    """Entries of a table by id: those that came, went, and differ, with (column, then, now) for each difference."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[tuple[str, object, object], ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Diff:
    """`tables` has an entry for objects, prompts, labels and clips where they differ.

    `config`, `code` and `environment` are reasons in words by asset; `metrics` are (then, now); `assets` are those that
    only one of the two has, with which one. `drift` has the rows of stages.quality.drift where both came from a corpus
    and the corpora differ. `lost` names tables that the cache has lost: they count as empty.
    """

    tables: dict[str, Changed]
    config: dict[str, list[str]]
    code: dict[str, list[str]]
    environment: list[str]
    metrics: dict[str, tuple[float | None, float | None]]
    assets: dict[str, str]
    lost: list[str]
    drift: list[dict[str, Any]]

    def __bool__(self) -> bool:
        return any((self.tables, self.config, self.code, self.environment, self.metrics, self.assets))

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"tables": {name: vars(changed) for name, changed in self.tables.items()}}


def diff(current: Current, before: Record, after: Record) -> Diff:
    """`before` and `after` may be any two artifacts; most is to be learned from two versions of one asset."""
    then = {part.asset: part.row for part in before.parts}
    now = {part.asset: part.row for part in after.parts}
    both = [asset for asset in now if asset in then]
    lost = [*before.lost, *after.lost]
    tables = {
        "objects": changed_rows(before.objects, after.objects, "id"),
        "prompts": changed_rows(before.prompts, after.prompts, "id"),
        "labels": changed_rows(before.labels, after.labels, "clip"),
        "clips": changed_rows(_verdicts(then.get(MANIFEST), lost), _verdicts(now.get(MANIFEST), lost), "id"),
    }
    config = {asset: list(config_reasons(then[asset].config, now[asset].config)) for asset in both}
    code = {asset: list(_code(then[asset], now[asset])) for asset in both}
    return Diff(
        tables={name: changed for name, changed in tables.items() if changed},
        config={asset: reasons for asset, reasons in config.items() if reasons},
        code={asset: modules for asset, modules in code.items() if modules},
        environment=list(_environment(before.row, after.row)),
        metrics=_metrics(before.row, after.row),
        assets={
            asset: "only in the first" if asset in then else "only in the second" for asset in then.keys() ^ now.keys()
        },
        lost=lost,
        drift=_drift(current, then.get(MANIFEST), now.get(MANIFEST)),
    )


def changed_rows(before: pl.DataFrame, after: pl.DataFrame, key: str) -> Changed:
    """Two tables compared by their `key`, in columns that both have."""
    columns = [column for column in before.columns if column in after.columns]
    then = {row[key]: row for row in before.select(columns).iter_rows(named=True)}
    now = {row[key]: row for row in after.select(columns).iter_rows(named=True)}
    different = {
        id_: tuple((c, then[id_][c], now[id_][c]) for c in columns if then[id_][c] != now[id_][c])
        for id_ in sorted(then.keys() & now.keys())
        if then[id_] != now[id_]
    }
    return Changed(tuple(sorted(now.keys() - then.keys())), tuple(sorted(then.keys() - now.keys())), different)


def _verdicts(row: Row | None, lost: list[str]) -> pl.DataFrame:
    """Which clips were accepted, as a manifest says; nothing where it is not in the cache."""
    columns = ("id", "verdict", "reason", "object", "licence")
    for file in row.files if row else ():
        kept = store.object_path(file.md5)
        if file.path == "manifest.parquet":
            if kept.is_file():
                table = pl.read_parquet(kept)
                return table.select([column for column in columns if column in table.columns])
            lost.append(f"{MANIFEST}/{file.path}")
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def _drift(current: Current, before: Row | None, after: Row | None) -> list[dict[str, Any]]:
    if before is None or after is None or before.version == after.version:
        return []
    table = drift_between(current.pipeline, before, after)
    return [] if table is None else table.to_dicts()


def _code(before: Row, after: Row) -> Iterator[str]:
    then, now = before.code_modules, after.code_modules
    for name in sorted(then.keys() | now.keys()):
        if name not in then:
            yield f"{name} is new"
        elif name not in now:
            yield f"{name} is gone"
        elif then[name] != now[name]:
            yield f"{name} changed"
    if before.code != after.code and before.git_commit and after.git_commit and before.git_commit != after.git_commit:
        yield f"see `git diff {before.git_commit[:12]} {after.git_commit[:12]} -- stages models`"


def _environment(before: Row, after: Row) -> Iterator[str]:
    then, now = before.environment, after.environment
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"{name} was {then.get(name) or 'absent'}, is {now.get(name) or 'absent'}"


def _metrics(before: Row, after: Row) -> dict[str, tuple[float | None, float | None]]:
    names = before.metrics.keys() | after.metrics.keys()
    pairs = {name: (before.metrics.get(name), after.metrics.get(name)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
