"""What the ledger holds now, and what each step would read if it ran now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

import polars as pl

from orchestration.lineage.ledger import MADE, OBSERVED, PUBLISHED, RECALLED, Input, Ledger, Row
from orchestration.pipeline import Pipeline
from orchestration.steps import Source, Step
from orchestration.versions import code_version, config_hash, digest, tree_version

Shard = str | None


@dataclass(frozen=True)
class Wanted:
    """One artifact as it should be: what it would be made of now.

    `absent` names inputs that were never made; then there is no `key`. `key` is the hash of all that decides the
    bytes: a row with the same key holds what making would give.
    """

    step: Step
    shard: Shard
    folder: str
    inputs: tuple[Input, ...]
    absent: tuple[tuple[str, Shard], ...]
    code: str
    config_hash: str

    @cached_property
    def key(self) -> str:
        if self.absent:
            return ""
        versions = [[asset, shard, version] for asset, shard, version, _ in self.inputs]
        return digest([self.folder, versions, self.code, self.config_hash])[:32]


class Current:
    """The newest rows of a pipeline's artifacts. One reading of the ledger: make a new one to see new rows."""

    def __init__(self, pipeline: Pipeline, ledger: Ledger | None = None) -> None:
        self.pipeline = pipeline
        self.rows = (ledger or Ledger()).read()
        self._versions: dict[str, dict[Shard, str]] = {}
        self._code = cache(code_version)
        self._shards = cache(pipeline.shards)

    # what is

    def row(self, asset: str, shard: Shard = None) -> Row | None:
        """The newest row of an artifact, or the row of a source as it is now; None if there is none."""
        found = self.pipeline.find(asset)
        if isinstance(found, Source):
            return self._observed.get((asset, shard, self.version(found, shard)))
        return self._newest.get(found.folder(self.pipeline.preset.name, shard))

    def version(self, of: Step | Source, shard: Shard = None) -> str | None:
        """The version of a source as it is now (shard None of a table: all of it), or of a step's newest artifact."""
        if isinstance(of, Source):
            return self._source_versions(of).get(shard)
        row = self.row(of.name, shard)
        return row.version if row else None

    def row_of_key(self, wanted: Wanted) -> Row | None:
        """The newest row that holds exactly what is wanted."""
        return self._keys.get((wanted.folder, wanted.key)) if wanted.key else None

    def row_of_version(self, folder: str, version: str) -> Row | None:
        """The newest row whose artifact in `folder` had this hash."""
        made = (row for row in reversed(self._made) if row.kind == MADE and row.folder == folder)
        return next((row for row in made if row.version == version), None)

    def row_of_id(self, id_: str) -> Row | None:
        return Row.of(self.rows.row(self._places[id_], named=True)) if id_ in self._places else None

    def published(self, service: str) -> dict[str, str]:
        """Row id -> reference, for all rows that `service` knows."""
        told = self.rows.filter((pl.col("kind") == PUBLISHED) & (pl.col("service") == service))
        return dict(told.select("about", "reference").iter_rows())

    # what should be

    def wanted(self, step: Step, shard: Shard = None) -> Wanted:
        inputs: list[Input] = []
        absent: list[tuple[str, Shard]] = []
        for name in step.reads:
            found = self.pipeline.find(name)
            for part in self.read_shards(step, shard, found):
                if version := self.version(found, part):
                    row = self.row(name, part)
                    inputs.append(Input(name, part, version, row.id if row else ""))
                else:
                    absent.append((name, part))
        return Wanted(
            step=step,
            shard=shard,
            folder=step.folder(self.pipeline.preset.name, shard),
            inputs=tuple(inputs),
            absent=tuple(absent),
            code=self._code(step.code),
            config_hash=config_hash(self.pipeline.preset, step.config),
        )

    def read_shards(self, step: Step, shard: Shard, upstream: Step | Source) -> tuple[Shard, ...]:
        """Which shards of `upstream` a shard of `step` reads: its own where both are cut alike, else all.

        A source table is then one thing, (None,).
        """
        if shard is not None and step.shards == upstream.shards:
            return (shard,)
        return (None,) if isinstance(upstream, Source) else self._shards(upstream)

    def behind(self, wanted: Wanted) -> dict[str, list[Row]]:
        """The rows of the assets in `step.files`, found by going up from what is read.

        An asset's rows are those at the nearest level where it occurs, so that they are the ones the manifest in
        between was made of.
        """
        found: dict[str, list[Row]] = {}
        level = {input_.row for input_ in wanted.inputs}
        while level and len(found) < len(wanted.step.files):
            rows = [row for id_ in sorted(level) if (row := self.row_of_id(id_))]
            above = {input_.row: input_ for row in rows for input_ in row.inputs}
            for name in wanted.step.files:
                here = [id_ for id_, input_ in above.items() if input_.asset == name]
                if here and name not in found:
                    found[name] = [row for id_ in here if (row := self.row_of_id(id_))]
            level = set(above)
        return found

    # inside

    def _source_versions(self, source: Source) -> dict[Shard, str]:
        if source.name not in self._versions:
            versions = self.pipeline.observe(source)
            whole = {None: digest(sorted(versions.items()))[:32]} if source.table else {}
            self._versions[source.name] = whole | versions
        return self._versions[source.name]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id_: place for place, id_ in enumerate(self.rows["id"])}

    @cached_property
    def _made(self) -> list[Row]:
        """Made and recalled rows of the folders that should exist, oldest first."""
        preset = self.pipeline.preset.name
        folders = [step.folder(preset, shard) for step in self.pipeline.steps for shard in self._shards(step)]
        ours = pl.col("kind").is_in([MADE, RECALLED]) & pl.col("folder").is_in(folders)
        return _rows(self.rows.filter(ours))

    @cached_property
    def _newest(self) -> dict[str, Row]:
        newest: dict[str, Row] = {}
        for row in self._made:
            if row.kind == MADE:
                newest[row.folder] = row
            elif row.about and (recalled := self.row_of_id(row.about)):
                newest[row.folder] = recalled
        return newest

    @cached_property
    def _keys(self) -> dict[tuple[str, str], Row]:
        return {(row.folder, row.key): row for row in self._made if row.kind == MADE}

    @cached_property
    def _observed(self) -> dict[tuple[str, Shard, str | None], Row]:
        seen = self.rows.filter(pl.col("kind") == OBSERVED)
        return {(row.asset, row.shard, row.version): row for row in _rows(seen)}


def input_versions(inputs: Iterable[Input]) -> dict[str, str]:
    """One version for each asset that was read; of several shards a hash over theirs."""
    shards: dict[str, dict[str, str]] = {}
    for input_ in inputs:
        shards.setdefault(input_.asset, {})[input_.shard or ""] = input_.version
    return {asset: next(iter(of.values())) if len(of) == 1 else tree_version(of) for asset, of in shards.items()}


def _rows(table: pl.DataFrame) -> list[Row]:
    return [Row.of(record) for record in table.to_dicts()]
