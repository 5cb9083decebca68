"""What the ledger holds now, and what each step would read if it ran now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import NamedTuple

import polars as pl

from orchestration.lineage.accepted import Accepted
from orchestration.lineage.ledger import MADE, OBSERVED, PUBLISHED, RECALLED, File, Input, Ledger, Row, among, files_of
from orchestration.lineage.withdrawn import withdrawals
from orchestration.pipeline import Pipeline
from orchestration.steps import Source, Step
from orchestration.versions import code_version, config_hash, digest, tree_version

Shard = str | None


class Newest(NamedTuple):
    """What lies in a folder now, by the newest row of it: as much as says whether it is fresh and what it took."""

    row: str
    version: str
    key: str
    files: tuple[File, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Wanted:
    """One artifact as it should be: what it would be made of now.

    `absent` names inputs that were never made; then there is no `key`. `key` is the hash of all that decides the
    bytes: a row with the same key holds what making would give. `stands_for` are codes that give the same bytes.
    """

    step: Step
    shard: Shard
    folder: str
    inputs: tuple[Input, ...]
    absent: tuple[tuple[str, Shard], ...]
    code: str
    config_hash: str
    stands_for: tuple[str, ...] = ()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """`key`, then those that were accepted to be as good; () when something is absent."""
        if self.absent:
            return ()
        versions = [[asset, shard, version] for asset, shard, version, _ in self.inputs]
        return tuple(
            digest([self.folder, versions, code, self.config_hash])[:32] for code in (self.code, *self.stands_for)
        )

    @property
    def key(self) -> str:
        return self.keys[0] if self.keys else ""


class Current:
    """The newest rows of a pipeline's artifacts. One reading of the ledger: make a new one to see new rows."""

    def __init__(self, pipeline: Pipeline, ledger: Ledger | None = None) -> None:
        self.pipeline = pipeline
        self.ledger = ledger or Ledger()
        self.accepted = Accepted(self.ledger)
        self._rows: dict[str, Row] = {}
        self._observed_now: list[Row] = []
        self._wanted: dict[tuple[str, Shard], Wanted] = {}
        self._versions: dict[str, dict[Shard, str]] = {}
        self.table = cache(pipeline.table)
        self._places = cache(self._places_by_shard)
        self.withdrawals = cache(lambda: withdrawals(self.ledger))
        self._shards = cache(pipeline.shards)
        self._older = cache(self._rows_by_key)
        self._code = cache(code_version)
        self._config = cache(lambda sections: config_hash(pipeline.preset, sections))

    # what is

    def newest(self, asset: str, shard: Shard = None) -> Newest | None:
        """What is newest of the artifact of a step; None if it was never made."""
        step = self.pipeline.find(asset)
        assert isinstance(step, Step)
        return self._newest.get(step.folder(self.pipeline.preset.name, shard))

    @property
    def everything(self) -> Mapping[str, Newest]:
        """Folder below `data/` -> what is newest in it, of every preset."""
        return self._newest

    def row(self, asset: str, shard: Shard = None) -> Row | None:
        """The newest row of an artifact, or the row of a source as it is now; None if there is none."""
        if not (id_ := self._row_id(asset, shard)):
            return None
        if id_ not in self._rows:  # who asks for one asks for others soon: one query for those of its kind
            found = self.pipeline.find(asset)
            whole = self.pipeline.steps if isinstance(found, Step) else self.pipeline.sources
            alike = [(each.name, None) for each in whole] if shard is None else product([asset], self._shards(found))
            self._fetch(other for name, part in alike if (other := self._row_id(name, part)))
        return self.row_of_id(id_)

    def version(self, of: Step | Source, shard: Shard = None) -> str | None:
        """The version of a source as it is now (shard None of a table: all of it), or of a step's newest artifact."""
        if isinstance(of, Source):
            return self._source_versions(of).get(shard)
        newest = self.newest(of.name, shard)
        return newest.version if newest else None

    def row_of_key(self, wanted: Wanted) -> Row | None:
        """The newest row that holds exactly what is wanted."""
        newest = self.newest(wanted.step.name, wanted.shard)
        if newest and newest.key in wanted.keys:
            return self.row(wanted.step.name, wanted.shard)
        older = self._older(wanted.step) if wanted.keys else {}
        return next((self.row_of_id(older[key]) for key in wanted.keys if key in older), None)

    def row_of_version(self, folder: str, version: str) -> Row | None:
        """The newest row whose artifact in `folder` had this hash."""
        made = (pl.col("kind") == MADE) & (pl.col("folder") == folder) & (pl.col("version") == version)
        found = self.ledger.query(lambda rows: rows.filter(made).select(_AGE.max()))
        return self.row_of_id(_id(found.item())) if found.item() else None

    def row_of_id(self, id_: str) -> Row | None:
        if id_ not in self._rows:
            self._fetch([id_])
        return self._rows.get(id_)

    def rows_of_ids(self, ids: Iterable[str]) -> list[Row]:
        """The rows of these ids that are there, in their order."""
        ids = list(ids)
        self._fetch(ids)
        return [self._rows[id_] for id_ in ids if id_ in self._rows]

    def published(self, service: str) -> dict[str, str]:
        """Row id -> the newest reference, for all rows that `service` knows."""
        told = (pl.col("kind") == PUBLISHED) & (pl.col("service") == service)
        found = self.ledger.query(lambda rows: rows.filter(told).select("about", "reference", "ended", "id"))
        return dict(found.sort("ended", "id").select("about", "reference").iter_rows())

    def folders(self) -> set[str]:
        """Every folder below `data/` that a row ever named."""
        return set(self.ledger.query(lambda rows: rows.select(pl.col("folder").unique()))["folder"]) - {None, ""}

    def rows_of(self, table: str, shard: Shard) -> pl.DataFrame:
        """A shard's rows of a source table; shard None is all of it."""
        whole = self.table(table)
        return whole if shard is None else whole[self._places(table)[shard]]

    def see(self, row: Row) -> None:
        """Take in an observation; `write_seen` puts it into the ledger, before any row that names it."""
        self._observed_now.append(row)

    def write_seen(self) -> None:
        if self._observed_now:
            self.ledger.append(*self._observed_now)
        self._observed_now = []

    # what should be

    def wanted(self, step: Step, shard: Shard = None) -> Wanted:
        if (step.name, shard) not in self._wanted:
            self._wanted[step.name, shard] = self._find_wanted(step, shard)
        return self._wanted[step.name, shard]

    def _find_wanted(self, step: Step, shard: Shard) -> Wanted:
        inputs: list[Input] = []
        absent: list[tuple[str, Shard]] = []
        for name in step.reads:
            found = self.pipeline.find(name)
            for part in self.read_shards(step, shard, found):
                if version := self.version(found, part):
                    inputs.append(Input(name, part, version, self._row_id(name, part) or ""))
                else:
                    absent.append((name, part))
        code, config = self._code(step.code), self._config(step.config)
        return Wanted(
            step=step,
            shard=shard,
            folder=step.folder(self.pipeline.preset.name, shard),
            inputs=tuple(inputs),
            absent=tuple(absent),
            code=code,
            config_hash=config,
            stands_for=self.accepted.stands_for(step.name, code, config),
        )

    def read_shards(self, step: Step, shard: Shard, upstream: Step | Source) -> tuple[Shard, ...]:
        """Which shards of `upstream` a shard of `step` reads: its own where both are cut alike, else all.

        A source table is then one thing, (None,).
        """
        if shard is not None and step.shards == upstream.shards:
            return (shard,)
        return (None,) if isinstance(upstream, Source) else self._shards(upstream)

    def behind(self, inputs: Iterable[Input], files: tuple[str, ...]) -> dict[str, list[Row]]:
        """The rows of the assets `files`, found by going up from what is read.

        An asset's rows are those at the nearest level where it occurs, so that they are the ones the manifest in
        between was made of.
        """
        found: dict[str, list[Row]] = {}
        level = {input_.row for input_ in inputs}
        while level and len(found) < len(files):
            above = {input_.row: input_ for row in self.rows_of_ids(sorted(level)) for input_ in row.inputs}
            for name in files:
                here = [id_ for id_, input_ in above.items() if input_.asset == name]
                if here and name not in found:
                    found[name] = self.rows_of_ids(here)
            level = set(above)
        return found

    # inside

    def _row_id(self, asset: str, shard: Shard) -> str | None:
        found = self.pipeline.find(asset)
        if isinstance(found, Source):
            return self._observed.get((asset, shard, self.version(found, shard)))
        newest = self.newest(asset, shard)
        return newest.row if newest else None

    def _places_by_shard(self, table: str) -> dict[str, list[int]]:
        """Shard -> the numbers of its rows, of all at once: thousands of shards would look through it as often."""
        found: dict[str, list[int]] = {}
        for place, shard in enumerate(self.table(table)["shard"]):
            found.setdefault(shard, []).append(place)
        return found

    def _fetch(self, ids: Iterable[str]) -> None:
        if lacking := {id_ for id_ in ids if id_ not in self._rows}:
            self._rows |= self.ledger.rows(lacking)

    def _source_versions(self, source: Source) -> dict[Shard, str]:
        if source.name not in self._versions:
            versions = self.pipeline.observe(source)
            whole = {None: digest(sorted(versions.items()))[:32]} if source.table else {}
            self._versions[source.name] = whole | versions
        return self._versions[source.name]

    @cached_property
    def _newest(self) -> dict[str, Newest]:
        columns = ("id", "kind", "about", "folder", "version", "key", "files", "seconds", "bytes")
        lies = pl.col("kind").is_in([MADE, RECALLED])
        newest = self.ledger.query(lambda rows: rows.filter(lies).group_by("folder").agg(_AGE.max().alias("newest")))
        found = self._columns(map(_id, newest["newest"]), columns)
        again = found.filter(kind=RECALLED)
        originals = {row["id"]: row for row in self._columns(again["about"], columns).iter_rows(named=True)}
        records = (
            originals.get(row["about"]) if row["kind"] == RECALLED else row for row in found.iter_rows(named=True)
        )
        return {
            row["folder"]: Newest(
                row["id"],
                row["version"],
                row["key"],
                files_of(row["files"]),
                row["seconds"],
                row["bytes"],
            )
            for row in records
            if row
        }

    def _columns(self, ids: Iterable[str], columns: Iterable[str]) -> pl.DataFrame:
        wanted = among("id", ids)
        return self.ledger.query(lambda rows: rows.filter(wanted).select(columns))

    def _rows_by_key(self, step: Step) -> Mapping[str, str]:
        """Key -> id of its newest row, for all that is wanted of the step now."""
        wanted = {key for shard in self._shards(step) for key in self.wanted(step, shard).keys}
        holds = (pl.col("kind") == MADE) & (pl.col("asset") == step.name) & among("key", wanted)
        newest = self.ledger.query(lambda rows: rows.filter(holds).group_by("key").agg(_AGE.max().alias("newest")))
        return {key: _id(age) for key, age in newest.iter_rows()}

    @cached_property
    def _observed(self) -> dict[tuple[str, Shard, str | None], str]:
        seen = pl.col("kind") == OBSERVED
        found = self.ledger.query(
            lambda rows: rows.filter(seen).group_by("asset", "shard", "version").agg(_AGE.max().alias("newest"))
        )
        return {(asset, shard, version): _id(age) for asset, shard, version, age in found.iter_rows()}


def input_versions(inputs: Iterable[Input]) -> dict[str, str]:
    """One version for each asset that was read; of several shards a hash over theirs."""
    shards: dict[str, dict[str, str]] = {}
    for input_ in inputs:
        shards.setdefault(input_.asset, {})[input_.shard or ""] = input_.version
    return {asset: next(iter(of.values())) if len(of) == 1 else tree_version(of) for asset, of in shards.items()}


_AGE = pl.concat_str("ended", pl.lit(" "), "id")
"""Sorts as (ended, id) does, and aggregates in one pass."""


def _id(age: str) -> str:
    return age.rpartition(" ")[2]
