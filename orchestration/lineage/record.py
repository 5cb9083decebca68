"""record(): where one artifact came from, in one object that every export is written from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import ACCEPTED, MLFLOW, OBSERVED, PROMOTED, Row, among
from orchestration.lineage.licences import Licensed, named_licence, summary
from orchestration.lineage.withdrawn import Withdrawal, withdrawals
from orchestration.resources import store
from orchestration.steps import Source
from stages.objects.sources import SourceError

OBJECT, PROMPT, LABEL, WEIGHTS = "object", "prompt", "label", "weights"
_LIGHT = (
    *("id", "kind", "preset", "asset", "shard", "folder", "version", "code", "config_hash", "git_commit", "git_diff"),
    *("service", "reference", "bytes", "seconds", "ended"),
)
_COLUMNS = {
    "source_objects": ("id", "shard", "caption", "licence", "creator", "split", "md5", "source"),
    "prompts": ("id", "shard", "text", "object", "licence", "creator", "md5", "seed"),
    "human_labels": ("clip", "verdict", "reason", "who", "date", "source", "object", "licence", "creator"),
}


@dataclass(frozen=True)
class Part:
    """One asset in a lineage: `count` artifacts of it, of which `row` is the newest. `codes` and `configs` count how
    many versions of code and config they were made under."""

    asset: str
    count: int
    row: Row
    codes: int
    configs: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Record:
    """`row` and everything above it.

    `rows` holds a line for each row, its parents under `parents`. `parts` has one entry an asset, each after what it
    was made of; `edges` are (read, reader) between them. `objects`, `prompts` and `labels` are the rows of the source
    tables as they were read; `lost` names tables that the cache has lost. `accepted`, `promoted`, `published` and
    `withdrawn` are what was decided and told about all this.
    """

    row: Row
    rows: pl.DataFrame
    parts: tuple[Part, ...]
    edges: tuple[tuple[str, str], ...]
    objects: pl.DataFrame
    prompts: pl.DataFrame
    labels: pl.DataFrame
    lost: tuple[str, ...]
    accepted: tuple[Row, ...]
    promoted: tuple[Row, ...]
    published: Mapping[str, str]
    withdrawn: tuple[Withdrawal, ...]

    @property
    def adopted(self) -> list[Row]:
        """Weights that came from elsewhere, on somebody's word."""
        return [part.row for part in self.parts if part.row.service == "adopted"]

    @cached_property
    def inputs(self) -> list[Licensed]:
        """Everything with a licence of its own that went in. Clips and renders stand under that of their object."""
        objects = self.objects.select("id", "licence", "creator", "split").fill_null("").iter_rows()
        prompts = self.prompts.select("id", "licence", "creator").fill_null("").iter_rows()
        labels = self.labels.select("clip", "licence", "creator").fill_null("").iter_rows()
        return [
            *(Licensed(WEIGHTS, row.asset, named_licence(row.reference or ""), "") for row in self.adopted),
            *(Licensed(OBJECT, *entry) for entry in objects),
            *(Licensed(PROMPT, *entry) for entry in prompts),
            *(Licensed(LABEL, *entry) for entry in labels),
        ]

    @cached_property
    def licences(self) -> dict[str, dict[str, int]]:
        """Licence -> kind of input -> how many."""
        return summary(self.inputs)

    @property
    def reference(self) -> str | None:
        """What MLflow calls it."""
        return self.published.get(self.row.id)


def record(current: Current, row: Row) -> Record:
    """Found in the ledger, and in the source tables as they were: where they changed since, in the cache by md5."""
    rows = closure(current, row)
    if rows.is_empty():  # an id covers all of its row
        raise OrbitforgeError(
            f"row {row.id} has another id in the ledger: it was changed; `orbitforge audit` says more"
        )
    ids = set(rows["id"])
    parts = _parts(current, rows)
    tables, lost = _tables(current, rows)
    decided = current.ledger.query(lambda table: table.filter(pl.col("kind").is_in([ACCEPTED, PROMOTED])))
    decisions = sorted(map(Row.of, decided.iter_rows(named=True)), key=lambda each: each.ended)
    decisions = list({each.id: each for each in decisions if each.about in ids or _same_code(each, rows)}.values())
    gone = withdrawals(current.ledger)
    named = {*tables["source_objects"]["id"], *tables["prompts"]["id"], *tables["human_labels"]["clip"]}
    return Record(
        row=row,
        rows=rows,
        parts=tuple(parts),
        edges=tuple(_edges(rows)),
        objects=tables["source_objects"],
        prompts=tables["prompts"],
        labels=tables["human_labels"],
        lost=tuple(lost),
        accepted=tuple(each for each in decisions if each.kind == ACCEPTED),
        promoted=tuple(each for each in decisions if each.kind == PROMOTED),
        published={id_: name for id_, name in current.published(MLFLOW).items() if id_ in ids},
        withdrawn=tuple(gone[id_] for id_ in sorted(named & gone.keys())),
    )


def closure(current: Current, row: Row) -> pl.DataFrame:
    """`row` and all above it, a line each, each after what it was made of; level by level, whatever their number."""
    found: list[pl.DataFrame] = []
    level, assets, seen = {row.id}, {row.asset}, {row.id}
    while level:
        # the assets tell Parquet which parts of a file it need not open
        asked = among("asset", assets) & among("id", level)
        rows = current.ledger.query(
            lambda table, asked=asked: table.filter(asked).select(*_LIGHT, "inputs").unique("id")
        )
        read = rows.select(pl.col("inputs").explode()).unnest("inputs").filter(pl.col("row") != "")
        parents = pl.col("inputs").list.eval(pl.element().struct.field("row")).alias("parents")
        found.append(rows.with_columns(parents).drop("inputs"))
        read = read.filter(~among("row", seen))
        level, assets = set(read["row"]), set(read["asset"])
        seen |= level
    rows = pl.concat(found)
    above: dict[str, set[str]] = {asset: set() for asset in rows["asset"].unique().sort()}
    for asset, reader in _edges(rows):
        above[reader].add(asset)
    try:
        order = {asset: place for place, asset in enumerate(TopologicalSorter(above).static_order())}
    except CycleError:  # ids cover inputs, so that no row can come before itself
        raise OrbitforgeError(
            f"rows above {row.id} were made of each other: the ledger was changed; `orbitforge audit` says more"
        ) from None
    place = pl.col("asset").replace_strict(order, return_dtype=pl.Int64)
    return rows.sort(place, "ended", "id")


def _same_code(decision: Row, rows: pl.DataFrame) -> bool:
    """Whether code that was accepted made one of the rows, though another row proved it."""
    alike = (pl.col("asset") == decision.asset) & (pl.col("code") == decision.code)
    return (
        decision.kind == ACCEPTED
        and not rows.filter(alike & (pl.col("config_hash") == decision.config_hash)).is_empty()
    )


def _parts(current: Current, rows: pl.DataFrame) -> list[Part]:
    grouped = rows.group_by("asset", maintain_order=True).agg(
        count=pl.len(),
        newest=pl.col("id").sort_by("ended").last(),
        codes=pl.col("code").n_unique(),
        configs=pl.col("config_hash").n_unique(),
        bytes=pl.col("bytes").sum(),
        seconds=pl.col("seconds").sum(),
    )
    newest = current.ledger.rows(grouped["newest"])
    return [
        Part(
            line["asset"],
            line["count"],
            newest[line["newest"]],
            line["codes"],
            line["configs"],
            line["bytes"],
            line["seconds"],
        )
        for line in grouped.iter_rows(named=True)
    ]


def _edges(rows: pl.DataFrame) -> list[tuple[str, str]]:
    assets = rows.select("id", read="asset")
    pairs = rows.select("asset", id=pl.col("parents")).explode("id").join(assets, on="id").select("read", "asset")
    return sorted(pairs.unique().iter_rows())


def _tables(current: Current, rows: pl.DataFrame) -> tuple[dict[str, pl.DataFrame], list[str]]:
    found: dict[str, pl.DataFrame] = {}
    lost: list[str] = []
    for asset, columns in _COLUMNS.items():
        observed = rows.filter((pl.col("kind") == OBSERVED) & (pl.col("asset") == asset))
        source = current.pipeline.find(asset) if len(observed) else None
        parts = [pl.DataFrame(schema=dict.fromkeys(columns, pl.String))]
        if isinstance(source, Source):
            parts += [_shown(table, columns) for table in _as_read(current, source, observed, lost)]
        # a whole table and its shards name the same entries
        found[asset] = pl.concat(parts).unique(columns[0], keep="last", maintain_order=True).sort(columns[0])
    return found, lost


def _as_read(current: Current, source: Source, observed: pl.DataFrame, lost: list[str]) -> list[pl.DataFrame]:
    tables: list[pl.DataFrame] = []
    changed = [id_ for id_, shard, version in observed.select("id", "shard", "version").iter_rows()
               if not source.table or _version_now(current, source, shard) != version]  # fmt: skip
    if source.table and len(changed) < len(observed):
        same = observed.filter(~pl.col("id").is_in(changed))
        table = current.pipeline.table(source.table)
        whole = same["shard"].null_count() > 0
        tables.append(table if whole else table.filter(pl.col("shard").is_in(same["shard"].implode())))
    files = [
        (store.object_path(file.md5), f"{source.name}/{file.path} of row {row.id}")
        for row in current.ledger.rows(changed).values()
        for file in row.files
        if file.path.endswith(".parquet")
    ]
    for path, name in dict(files).items():
        try:
            tables.append(pl.read_parquet(path))
        except (OSError, pl.exceptions.PolarsError):  # the cache has lost it, or a person's file was never whole
            lost.append(name)
    return tables


def _version_now(current: Current, source: Source, shard: str | None) -> str | None:
    """None where the source table is not here: what was read of it may lie in the cache."""
    try:
        return current.version(source, shard)
    except SourceError:
        return None


def _shown(table: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    return table.select(
        pl.col(name).cast(pl.String) if name in table.columns else pl.lit(None, pl.String).alias(name)
        for name in columns
    )


def as_json(record: Record, current: Current) -> dict[str, Any]:
    """The record for programs: the rows as they stand in the ledger, oldest first."""
    rows = sorted(current.ledger.rows(record.rows["id"]).values(), key=lambda row: row.ended)
    return {
        "row": record.row.id,
        "reference": record.reference,
        "rows": [content(row) for row in rows],
        "objects": record.objects.to_dicts(),
        "prompts": record.prompts.to_dicts(),
        "labels": record.labels.to_dicts(),
        "licences": record.licences,
        "accepted": [content(row) for row in record.accepted],
        "promoted": [content(row) for row in record.promoted],
        "published": dict(record.published),
        "withdrawn": [each._asdict() for each in record.withdrawn],
        "lost": list(record.lost),
    }


def content(row: Row) -> dict[str, Any]:
    return {"id": row.id} | {
        name: json.loads(value) if name in ("code_modules", "config", "environment", "metrics") else value
        for name, value in row.record().items()
    }
