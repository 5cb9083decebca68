"""What other processes commit while this one works."""

from __future__ import annotations

import polars as pl

from orchestration.lineage.ledger import MADE, Ledger, Row, newest

_MADE = pl.col("kind") == MADE


class Meanwhile:
    """Rows that others have written since this was made. Each file of the ledger is looked at once."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._since = newest()  # compaction brings old rows into new files
        self._seen = set(self._ledger.names())
        self._ids: dict[tuple[str, str], str] = {}

    def row(self, folder: str, key: str) -> Row | None:
        """The row of exactly this artifact, where another process committed it."""
        new = set(self._ledger.names()) - self._seen - self._ledger.own()
        if new:
            made = _MADE & (pl.col("ended") > self._since)
            found = self._ledger.query(
                lambda rows: rows.filter(made).select("folder", "key", "id"), besides=self._seen | self._ledger.own()
            )
            self._ids |= {(of, key_of): id_ for of, key_of, id_ in found.iter_rows()}
            self._seen |= new
        id_ = self._ids.get((folder, key))
        return self._ledger.rows([id_]).get(id_) if id_ else None


def made_before(folder: str, key: str) -> Row | None:
    """The newest row of exactly this artifact, whoever wrote it."""
    this = _MADE & (pl.col("folder") == folder) & (pl.col("key") == key)
    found = Ledger().query(lambda rows: rows.filter(this))
    return max(map(Row.of, found.iter_rows(named=True)), key=lambda row: (row.ended, row.id), default=None)
