"""Source tables and folders as the ledger sees them: observed, with the md5 of every file they name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from orchestration import paths
from orchestration.lineage.current import Current, Shard
from orchestration.lineage.ledger import OBSERVED, File, Row, now
from orchestration.lineage.withdrawn import copy_without, held, withdrawals
from orchestration.steps import Source
from orchestration.versions import file_md5
from orchestration.workspace import adopt, missing, remove, store


def observe(current: Current, source: Source, shard: Shard) -> Row:
    """The row of a source as it is now; its files are in the cache then. `current.write_seen` writes it if it is new.

    A shard of a table holds `<table>.parquet` with the shard's rows and the files that the rows name; shard None of a
    table is all of it. Raises OrbitforgeError, naming the file, for one that is missing or is not what its row says.
    """
    row = current.row(source.name, shard)
    if row and not missing(row.files):
        return row
    preset = current.pipeline.preset
    row = Row(
        kind=OBSERVED,
        preset=preset.name,
        asset=source.name,
        shard=shard,
        version=current.version(source, shard) or "",
        files=_table_files(current, source.table, shard) if source.table else _folder_files(source),
        started=(at := now()),
        ended=at,
    )
    current.see(row)
    return row


def labels(source: Source) -> pl.DataFrame:
    """The verdicts in a source folder; no rows where there is none."""
    from stages.quality.judged import SCHEMA, read_labels

    home = paths.data() / (source.folder or source.name)
    return read_labels(home) if any(home.glob("labels*.parquet")) else pl.DataFrame(schema=SCHEMA)


def _table_files(current: Current, table: str, shard: Shard) -> tuple[File, ...]:
    home = paths.data() / current.pipeline.preset.source.folder
    rows = current.rows_of(table, shard)
    named = rows.filter(pl.col("file").is_not_null()).select("file", "md5").unique(maintain_order=True).iter_rows()
    return (*_stored(rows, f"{table}.parquet"), *(File(file, md5, adopt(home / file, md5)) for file, md5 in named))


def _stored(rows: pl.DataFrame, name: str) -> tuple[File, ...]:
    with _aside() as folder:
        rows.write_parquet(folder / name)
        return store(folder)


def _folder_files(source: Source) -> tuple[File, ...]:
    home = paths.data() / (source.folder or source.name)
    if gone := held(home, withdrawals()):
        with _aside() as folder:
            copy_without(home, gone, folder / "left")
            return store(folder / "left")
    found = sorted(path for path in home.rglob("*") if path.is_file())
    md5s = {path: file_md5(path) for path in found}
    return tuple(File(_relative(path, home), md5, adopt(path, md5)) for path, md5 in md5s.items())


@contextmanager
def _aside() -> Iterator[Path]:
    folder = paths.work() / "observed" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def _relative(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix()
