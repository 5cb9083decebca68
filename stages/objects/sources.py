"""The source tables: which objects and prompts exist, in which shard, by whom and under which licence."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from stages.errors import InputError
from stages.hashing import file_md5
from stages.objects.collections.item import captioned
from stages.objects.config import SourceConfig
from stages.objects.splits import split_of_object

OBJECTS, PROMPTS = "objects", "prompts"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    OBJECTS: (
        "id",
        "shard",
        "caption",
        "category",
        "licence",
        "creator",
        "split",
        "file",
        "md5",
        "faces",
        "source",
    ),
    PROMPTS: ("id", "shard", "text", "object", "file", "md5", "seed", "licence", "creator"),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {OBJECTS: (), PROMPTS: ("source",)}
"""Columns that older tables lack. A prompt without an object has no file: its first frame is drawn from its text."""


FILLED_BY: Mapping[str, str] = {OBJECTS: "`orbitforge import`", PROMPTS: "`orbitforge prompts`"}


class SourceError(InputError):
    """A source table that is missing or cannot be used."""


def read_table(data: Path, config: SourceConfig, name: str) -> pl.DataFrame:
    """The rows of `objects` or `prompts` that the preset uses, in table order.

    `data` is the data folder. `file` is relative to the source folder. Raises SourceError for a table that is
    missing, is empty, lacks a column, repeats an id or has empty cells in id or shard, or in file and text alike.
    """
    path = data / config.folder / f"{name}.parquet"
    if not path.is_file():
        raise SourceError(f"{path} is missing; fetch the sample data with `orbitforge run` or put your own table there")
    table = pl.read_parquet(path)
    lacking = [column for column in COLUMNS[name] if column not in table.columns]
    if lacking:
        raise SourceError(f"{path} lacks the columns {lacking}; it has {table.columns}")
    table = table.select(*COLUMNS[name], *(column for column in OPTIONAL[name] if column in table.columns))
    if table.is_empty():
        raise SourceError(f"{path} holds no rows; fill it with {FILLED_BY[name]}")
    for column in ("id", "shard", "file"):
        lacks = pl.col(column).is_null()
        if column == "file" and name == PROMPTS:
            lacks &= pl.col("object").is_not_null() | pl.col("text").is_null()
        if empty := table.select(lacks.sum()).item():
            raise SourceError(f"{path}: {empty} of {len(table)} rows have no {column}; every row needs one")
    if len(repeated := table.filter(pl.col("id").is_duplicated())["id"].unique().sort()):
        raise SourceError(f"{path}: {len(repeated)} ids occur twice, first {repeated[0]!r}; make them unique")
    return _limit(table, *_limits(config, name))


def shard_ids(table: pl.DataFrame) -> list[str]:
    """The shards of a table, sorted: new shards come last when ids are numbered."""
    return table["shard"].unique().sort().to_list()


def shard_rows(table: pl.DataFrame, shard: str) -> pl.DataFrame:
    return table.filter(pl.col("shard") == shard)


def rows_version(rows: pl.DataFrame) -> str:
    """The version of some rows: a hash of their values, whatever file or order of columns they came in."""
    columns = sorted(rows.columns)
    digest = hashlib.sha256("\x1f".join(columns).encode())
    for row in rows.sort("id").select(columns).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()[:32]


def assign_shards(
    ids: Iterable[str], size: int, *, known: Mapping[str, str] | None = None, prefix: str = ""
) -> dict[str, str]:
    """The shard of each id. Ids in `known` stay where they are; new ids fill new shards of `size`.

    New ids go in the order of their hash, so that a shard is a fair sample of what arrived together.
    """
    shards = dict(known or {})
    new = sorted(set(ids) - shards.keys(), key=lambda i: hashlib.sha256(i.encode()).digest())
    first = 1 + max((int(shard.removeprefix(prefix)) for shard in shards.values()), default=-1)
    shards.update({id_: f"{prefix}{first + place // size:03d}" for place, id_ in enumerate(new)})
    return shards


def describe_objects(
    records: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    shard_size: int,
    known: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """The objects table for meshes in `folder/meshes`.

    A record has id, file (a name in `meshes`), caption or a name to make one from, category, creator, licence,
    faces and source; the rest of the columns are derived here. `known` maps ids of an earlier table to their shards.
    """
    records = list(records)
    shards = assign_shards((r["id"] for r in records), shard_size, known=known)
    rows = [
        {
            "id": r["id"],
            "shard": shards[r["id"]],
            "caption": r.get("caption") or captioned(r["name"]),
            "category": r["category"],
            "licence": r["licence"],
            "creator": r["creator"],
            "split": split_of_object(r["creator"], r["id"]),
            "file": f"meshes/{r['file']}",
            "md5": file_md5(folder / "meshes" / r["file"]),
            "faces": r["faces"],
            "source": r["source"],
        }
        for r in records
    ]
    order = {r["id"]: hashlib.sha256(r["id"].encode()).hexdigest() for r in records}
    rows.sort(key=lambda row: (row["shard"], order[row["id"]]))
    return pl.DataFrame(rows).select(COLUMNS[OBJECTS])


def _limits(config: SourceConfig, name: str) -> tuple[int | None, int | None]:
    if name == OBJECTS:
        return config.object_shards, config.objects_per_shard
    return config.prompt_shards, config.prompts_per_shard


def _limit(table: pl.DataFrame, shards: int | None, per_shard: int | None) -> pl.DataFrame:
    if shards is not None:
        table = table.filter(pl.col("shard").is_in(shard_ids(table)[:shards]))
    if per_shard is not None:
        table = table.filter(pl.int_range(pl.len()).over("shard") < per_shard)
    return table


def licences(table: pl.DataFrame) -> dict[str, int]:
    """How many rows stand under each licence, most frequent first."""
    return dict(Counter(table["licence"].to_list()).most_common())
