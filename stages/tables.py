"""Tables on disk."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from stages.errors import InputError
from stages.sandbox import Limits, Sandbox
from stages.text import FORMULA, STEERING, spelled_out

LARGEST = 1 << 29
"""Bytes of text in a table from elsewhere."""
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How files of gzip, zstd and zlib begin; polars unpacks them whatever they are called."""


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Whole or not at all, as .csv or else as Parquet. In a CSV, which spreadsheets open, what they would take for a
    formula begins with an apostrophe, and control characters are spelled out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        if path.suffix.lower() == ".csv":
            table = table.with_columns(
                column.map_elements(spelled_out, return_dtype=pl.String)
                for column in table.select(pl.col(pl.String))
                if column.str.contains(STEERING).any()
            )
            texts = [pl.col(name) for name, kind in table.schema.items() if kind == pl.String]
            plain = [
                pl.when(each.str.slice(0, 1).is_in(FORMULA)).then("'" + each).otherwise(each).name.keep()
                for each in texts
            ]
            table.with_columns(plain).write_csv(unfinished)
        else:
            table.write_parquet(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def foreign_table(path: Path) -> pl.DataFrame:
    """A .csv or .parquet from elsewhere, every column as text; without rows where it is empty.

    Parquet says itself how large it is, and its reader believes it or breaks: a child process reads it. Raises
    InputError, naming the file, for what is no table, holds lists or the like, or more than `LARGEST` bytes.
    """
    try:
        if path.suffix.lower() == ".csv":
            if (size := path.stat().st_size) > LARGEST:
                raise InputError(f"{path} has {size} bytes, tables of at most {LARGEST} are read; split it")
            with path.open("rb") as file:
                if file.read(4).startswith(PACKED):
                    raise InputError(f"{path} is packed, and what it unpacks to has no size yet: unpack it first")
            return pl.read_csv(path, infer_schema=False)
        with Sandbox(_as_text, Limits(seconds=120, wall=600, gigabytes=4)) as child:
            return child(path)
    except pl.exceptions.NoDataError:
        return pl.DataFrame()
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from None


def _as_text(path: Path) -> pl.DataFrame:
    """In the child."""
    try:
        lazy = pl.scan_parquet(path)
        if rows := lazy.select(pl.len()).collect().item():
            nested = [name for name, kind in lazy.collect_schema().items() if kind.is_nested()]
            if nested:
                raise InputError(f"{path}: the column {nested[0][:80]!r} holds no plain values; a cell is a text")
            if rows > LARGEST // 8:
                raise InputError(f"{path} has {rows} rows, which is more than is read; split it")
        table = lazy.collect().select(pl.all().cast(pl.String))
    except pl.exceptions.PanicException as error:  # derives from BaseException, as polars' readers panic
        raise InputError(f"{path} is no Parquet file that can be read: {' '.join(str(error).split())[:120]}") from None
    size = sum(int(table[name].str.len_bytes().sum() or 0) for name in table.columns)
    if size > LARGEST:
        raise InputError(f"{path} holds {size} bytes of text, at most {LARGEST} are read; split it")
    return table.rechunk()
