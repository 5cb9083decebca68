"""Which model every alias points to."""

from __future__ import annotations

import polars as pl

from orchestration.lineage.current import Current
from orchestration.lineage.ledger import PROMOTED


def promoted(current: Current) -> dict[tuple[str, str, str], str]:
    """(preset, asset, alias) -> id of the row that the alias points to now."""
    told = current.ledger.query(lambda rows: rows.filter(pl.col("kind") == PROMOTED)).sort("ended", "id")
    return {(row["preset"], row["asset"], row["service"]): row["about"] for row in told.iter_rows(named=True)}
