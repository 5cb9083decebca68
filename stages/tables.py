"""Tables on disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Whole or not at all, as .csv or else as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        (table.write_csv if path.suffix.lower() == ".csv" else table.write_parquet)(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
