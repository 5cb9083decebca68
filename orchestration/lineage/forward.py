"""Everything that was ever made of something, and whether only through the video model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import polars as pl

from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, Row

THROUGH = "video_model"
"""What stands between an object and clips that merely resemble it."""


@dataclass(frozen=True)
class Descendant:
    """An artifact made of the root. `direct`: also along a way that does not lead through the video model."""

    row: Row
    direct: bool
    newest: bool


def descendants(current: Current, roots: Iterable[str]) -> list[Descendant]:
    """What was made of the rows `roots`, at any distance, as it was made one after another."""
    children, videos = _children(current)
    roots = set(roots)
    everything = _reached(children, roots)
    # the video model itself is made directly; what is made of it is not
    direct = _reached({id_: made for id_, made in children.items() if id_ not in videos}, roots)
    rows = sorted(current.ledger.rows(everything).values(), key=lambda row: (row.ended, row.id))
    newest = {each.row for each in current.everything.values()}
    return [Descendant(row, row.id in direct, row.id in newest) for row in rows]


def _children(current: Current) -> tuple[Mapping[str, list[str]], Set[str]]:
    """Row id -> the rows that read it; and which rows are video models."""
    edges = current.ledger.query(
        lambda rows: (
            rows.filter(pl.col("kind") == MADE)
            .select("id", "asset", parent=pl.col("inputs").list.eval(pl.element().struct.field("row")))
            .explode("parent")
            .filter(pl.col("parent") != "")
            .unique()
        )
    )
    grouped = edges.group_by("parent").agg("id")
    return dict(grouped.iter_rows()), set(edges.filter(asset=THROUGH)["id"])


def _reached(children: Mapping[str, list[str]], roots: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    queue = list(roots)
    while queue:
        new = set(children.get(queue.pop(), ())) - reached
        reached |= new
        queue += new
    return reached
