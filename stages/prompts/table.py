"""Tables of prompts: read from what people have, and grown without moving what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from stages.errors import InputError
from stages.objects.collections.item import readable
from stages.objects.sources import COLUMNS, PROMPTS, assign_shards
from stages.objects.splits import UNKNOWN
from stages.prompts.screen import key_of
from stages.tables import foreign_table

SOURCE = "source"
SCHEMA = {name: pl.Int64 if name == "seed" else pl.String for name in (*COLUMNS[PROMPTS], SOURCE)}


def read_texts(path: Path, *, licence: str | None = None, creator: str | None = None) -> pl.DataFrame:
    """`text`, `source`, `licence`, `creator` of a CSV or Parquet file with a column `text`, or of the lines of a .txt.

    Where the table has no licence or creator, those given stand, else "unknown". Raises InputError, naming the file,
    when it cannot be read, has no `text`, or holds no rows.
    """
    try:
        if path.suffix.lower() in (".parquet", ".csv"):
            table = foreign_table(path)
        else:
            table = pl.DataFrame({"text": path.read_text(encoding="utf-8").splitlines()}, schema={"text": pl.String})
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a table of prompts: {' '.join(str(error).split())[:200]}") from None
    if not table.columns:
        raise InputError(f"{path} holds no prompt; put one sentence in a row")
    if "text" not in table.columns:
        raise InputError(f"{path} has no column `text`; it has {', '.join(table.columns)}")
    if table.is_empty():
        raise InputError(f"{path} holds no prompt; put one sentence in a row")

    def column(name: str, default: str) -> pl.Expr:
        value = pl.col(name).cast(pl.String) if name in table.columns else pl.lit(None, pl.String)
        return value.fill_null(default).replace("", default).alias(name)

    return table.select(
        pl.col("text").cast(pl.String),
        column(SOURCE, path.name),
        column("licence", licence or UNKNOWN).map_elements(readable, return_dtype=pl.String),
        column("creator", creator or UNKNOWN),
    )


def read_prompts(path: Path) -> pl.DataFrame:
    """The table of prompts at `path`, .parquet or .csv, with a `source`; no rows where there is none.

    Raises InputError when it is no table of prompts.
    """
    if not path.is_file():
        return pl.DataFrame(schema=SCHEMA)
    try:
        table = pl.read_csv(path, infer_schema=False) if path.suffix.lower() == ".csv" else pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} is no table of prompts: {' '.join(str(error).split())[:200]}") from None
    if lacking := [name for name in COLUMNS[PROMPTS] if name not in table.columns]:
        raise InputError(f"{path} is no table of prompts, it lacks {', '.join(lacking)}; name another file")
    if SOURCE not in table.columns:
        table = table.with_columns(pl.lit(None, pl.String).alias(SOURCE))
    return table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def keys(prompts: pl.DataFrame) -> pl.Series:
    """The keys of the prompts that are drawn from their text; those of an object may repeat."""
    return prompts.filter(pl.col("object").is_null()).select(key=key_of(pl.col("text")))["key"]


def grown(prompts: pl.DataFrame, texts: pl.DataFrame, shard_size: int) -> pl.DataFrame:
    """`prompts` with rows for `texts` (text, key, source, licence, creator) in new shards; what was there stays.

    Ids and seeds follow from the key, so that a sentence has the same ones wherever it comes.
    """
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in texts["key"]]
    ids = [f"t{digest[:16]}" for digest in digests]
    known = dict(prompts.select("id", "shard").iter_rows())
    shards = assign_shards(ids, shard_size, known=known, prefix="p")
    rows = texts.select("text", SOURCE, "licence", "creator").with_columns(
        pl.Series("id", ids, pl.String),
        pl.Series("shard", [shards[id_] for id_ in ids], pl.String),
        pl.Series("seed", [int(digest[-8:], 16) for digest in digests], pl.Int64),
    )
    return pl.concat([prompts, rows], how="diagonal").select(*SCHEMA).sort("shard", maintain_order=True)
