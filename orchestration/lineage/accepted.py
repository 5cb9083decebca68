"""Which codes were accepted to give the same bytes."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import polars as pl

from orchestration.lineage.ledger import ACCEPTED, Ledger


class Pair(NamedTuple):
    """Under `config`, code `new` of the asset stands for code `old`."""

    asset: str
    config: str
    new: str
    old: str


class Accepted:
    """One reading of what the ledger accepted."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger = ledger or Ledger()

    def stands_for(self, asset: str, code: str, config: str) -> tuple[str, ...]:
        """The other codes that give the same bytes as `code`, sorted."""
        return tuple(sorted(self._alike(asset, code, config) - {code}))

    def first(self, asset: str, code: str, config: str) -> str:
        """The oldest of the codes that are as good as `code`: one name for all of them, for Dagster."""
        alike = self._alike(asset, code, config)
        later = {pair.new for pair in self._pairs if (pair.asset, pair.config) == (asset, config)}
        return min(alike - later or alike)

    def _alike(self, asset: str, code: str, config: str) -> set[str]:
        pairs = [{pair.new, pair.old} for pair in self._pairs if (pair.asset, pair.config) == (asset, config)]
        alike = {code}
        while more := {each for pair in pairs if alike & pair for each in pair} - alike:
            alike |= more
        return alike

    @cached_property
    def _pairs(self) -> list[Pair]:
        told = self.ledger.query(
            lambda rows: rows.filter(pl.col("kind") == ACCEPTED).select("asset", "config_hash", "code", "about")
        )
        proved = self.ledger.rows(told["about"])
        return [
            Pair(asset, config, code, proved[about].code)
            for asset, config, code, about in told.iter_rows()
            if about in proved
        ]
