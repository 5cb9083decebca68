"""Taking an object or a prompt out of everything that is made from now on, and finding what holds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.forward import Descendant, descendants
from orchestration.lineage.ledger import OBSERVED, WITHDRAWN, File, Ledger, Row, now
from orchestration.lineage.sources import labels
from orchestration.lineage.withdrawn import names, withdrawals
from orchestration.pipeline import Pipeline
from orchestration.resources import store
from orchestration.steps import Source


@dataclass(frozen=True)
class Entry:
    """An entry of a source, and the shard that it stands in."""

    source: Source
    id: str
    shard: str | None


def entries(pipeline: Pipeline, id_: str) -> list[Entry]:
    """What goes with `id_`: the object or prompt itself, the prompts that imagine an object, the clips that show it.

    Raises OrbitforgeError when no source has such an entry.
    """
    found: list[Entry] = []
    for source in pipeline.sources:
        if source.table:
            table = pipeline.whole_table(source.table)
            chosen = table.filter(names(table, [id_])).select("id", "shard")
            found += [Entry(source, entry, shard) for entry, shard in chosen.iter_rows()]
        else:
            judged = labels(source)
            found += [Entry(source, clip, None) for clip in judged.filter(names(judged, [id_]))["clip"]]
    if not any(entry.id == id_ for entry in found):
        raise OrbitforgeError(f"no object, prompt or label is called {id_!r}; ids stand in the tables of data/source")
    return found


def refuse_withdrawn(current: Current, gone: Iterable[Entry], *, purging: bool) -> None:
    """Raise OrbitforgeError when all of it is withdrawn already and there is nothing more to do."""
    known = withdrawals(current.ledger)
    first = next(iter(gone))
    if not purging and all(entry.id in known for entry in gone):
        before = known[first.id]
        raise OrbitforgeError(
            f"{first.id} was withdrawn on {before.at[:19]} by {before.by} already: {before.reason}; --purge removes "
            "its bytes"
        )


def withdraw(
    pipeline: Pipeline, cause: str, gone: Iterable[Entry], *, reason: str, by: str, purged: Iterable[File] = ()
) -> None:
    """Record that `gone` goes with `cause`. From now on no stage reads any of it, also when a table brings it again."""
    at = now()
    rows = [
        Row(
            kind=WITHDRAWN,
            preset=pipeline.preset.name,
            asset=entry.source.name,
            shard=entry.shard,
            about=entry.id,
            config={"cause": cause},
            reference=reason,
            by=by,
            started=at,
            ended=at,
            files=() if number else tuple(sorted(purged)),
        )
        for number, entry in enumerate(gone)
    ]
    Ledger().append(*rows)


def holders(current: Current, gone: Iterable[Entry]) -> list[Descendant]:
    """Every artifact that was ever made of them, at any distance."""
    return descendants(current, (row.id for row in observed_with(current, gone)))


def observed_with(current: Current, gone: Iterable[Entry]) -> list[Row]:
    """The observations of sources whose tables name any of them. A table that is not in the cache may have."""
    ids = sorted({entry.id for entry in gone})
    assets = sorted({entry.source.name for entry in gone})
    seen = (pl.col("kind") == OBSERVED) & pl.col("asset").is_in(assets)
    rows = current.rows_of_ids(current.ledger.query(lambda rows: rows.filter(seen).select("id"))["id"])
    return [row for row in rows if any(_may_name(file, ids) for file in row.files if file.path.endswith(".parquet"))]


def _may_name(file: File, ids: list[str]) -> bool:
    kept = store.object_path(file.md5)
    if not kept.is_file():
        return True
    table = pl.read_parquet(kept)
    return not table.filter(names(table, ids)).is_empty()
