"""A collection as rows for `render_shard`, outside of any pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from stages.objects.collections.item import Item
from stages.objects.sources import assign_shards, rows_version
from stages.objects.splits import split_of_object
from stages.rendering.loader import sandboxed
from stages.rendering.mesh import MeshError
from stages.rendering.preflight import content_md5
from stages.sandbox import Limits, Sandbox
from stages.text import spelled_out

SCHEMA = {
    "id": pl.String,
    "shard": pl.String,
    "name": pl.String,
    "file": pl.String,
    "md5": pl.String,
    "caption": pl.String,
    "category": pl.String,
    "licence": pl.String,
    "creator": pl.String,
    "split": pl.String,
    "source": pl.String,
    "rotation": pl.List(pl.Float64),
    "reason": pl.String,
}


def collection_rows(
    items: Iterable[Item], shard_size: int, known: Mapping[str, str] | None = None, limits: Limits | None = None
) -> pl.DataFrame:
    """A row for each item, sorted by id; `known` maps ids of an earlier table to their shards, where they stay.

    `name` is the file as people know it, `file` where it lies. What cannot be read has a `reason`.
    """
    with Sandbox(content_md5, limits) as md5_of:
        rows = [_row(item, md5_of) for item in items]
    shards = assign_shards([row["id"] for row in rows], shard_size, known=known)
    return pl.DataFrame([row | {"shard": shards[row["id"]]} for row in rows], schema=SCHEMA).sort("id")


def _row(item: Item, md5_of: Sandbox[[Path], str]) -> dict[str, Any]:
    md5, reason = None, item.reason
    try:
        if item.path and not reason:
            md5 = sandboxed(md5_of, item.path)
    except MeshError as error:
        reason = spelled_out(str(error))
    return {
        "id": item.id,
        "name": item.file,
        "file": str(item.path.absolute()) if item.path else None,
        "md5": md5,
        "caption": item.caption,
        "category": item.category,
        "licence": item.licence,
        "creator": item.creator,
        "split": split_of_object(item.creator, item.id),
        "source": item.source,
        "rotation": item.rotation,
        "reason": reason,
    }


def content_version(rows: pl.DataFrame) -> str:
    """Of what rendering makes of the rows, wherever the files lie."""
    return rows_version(rows.drop("file"))


def known_shards(table: Path) -> dict[str, str]:
    """The shard of each id in an earlier table; empty when there is none."""
    if not table.is_file():
        return {}
    return dict(pl.read_parquet(table, columns=["id", "shard"]).iter_rows())
