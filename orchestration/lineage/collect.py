"""Freeing the cache of what nobody needs any more."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from orchestration import paths
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import OBSERVED
from orchestration.lineage.promoted import promoted
from orchestration.lineage.record import closure
from orchestration.resources import store

PROMOTED, ANCESTORS = "promoted", "ancestors"


@dataclass(frozen=True)
class Garbage:
    """Cache objects that go: path -> bytes that this frees. A file that `data/` links frees nothing."""

    files: dict[Path, int]
    kept: int

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def parse_keep(text: str) -> frozenset[str]:
    """`promoted` or `promoted+ancestors`. Raises OrbitforgeError for anything else."""
    words = frozenset(text.split("+"))
    if PROMOTED not in words or words - {PROMOTED, ANCESTORS}:
        raise OrbitforgeError(f"--keep {text!r}: say {PROMOTED} or {PROMOTED}+{ANCESTORS}")
    return words


def garbage(current: Current, keep: frozenset[str]) -> Garbage:
    """What the cache holds that nobody needs.

    Needed is what `data/` holds now, the sources as they were seen last, what `data.dvc` names here and at every branch
    and tag, and the promoted models, with all that they came from if `keep` says so.
    """
    needed = _needed(current, keep)
    files: dict[Path, int] = {}
    kept = 0
    cache = store.cache_dir()
    for path in cache.glob("[0-9a-f][0-9a-f]/*"):
        md5 = path.parent.name + path.name
        if md5.removesuffix(".dir") in needed or path.suffix == ".tmp":
            kept += 1
        else:
            stat = path.stat()
            files[path] = stat.st_size if stat.st_nlink == 1 else 0
    return Garbage(files, kept)


def collect(found: Garbage) -> None:
    """Remove it. What a colleague's run needs meanwhile is pulled or made again: nothing is garbage that a row of now
    names."""
    for path in found.files:
        with plain_errors(f"removing {path}"):
            path.unlink(missing_ok=True)


def _needed(current: Current, keep: frozenset[str]) -> set[str]:
    rows = [newest.row for newest in current.everything.values()]
    rows += _observed(current)
    for row in current.rows_of_ids(dict.fromkeys(promoted(current).values())):
        rows += closure(current, row)["id"].to_list() if ANCESTORS in keep else [row.id]
    wanted = pl.LazyFrame({"id": rows}, schema={"id": pl.String}).unique()
    files = current.ledger.query(
        lambda table: (
            table.select("id", md5=pl.col("files").list.eval(pl.element().struct.field("md5")))
            .join(wanted, on="id", how="semi")
            .select(pl.col("md5").explode())
            .drop_nulls()
            .unique()
        )
    )
    return {*files["md5"], *_recorded()}


def _observed(current: Current) -> list[str]:
    age = pl.concat_str("ended", pl.lit(" "), "id").max().alias("age")
    seen = current.ledger.query(
        lambda rows: rows.filter(pl.col("kind") == OBSERVED).group_by("preset", "asset", "shard").agg(age)
    )
    return [age.rpartition(" ")[2] for age in seen["age"]]


def _recorded() -> Iterator[str]:
    """What `data.dvc` names, here and at every tip: a checkout of any of them must work."""
    for revision in [None, *_tips()]:
        pointer = store.pointer(revision)
        if pointer:
            yield pointer.removesuffix(".dir")
            yield from (store.listed(pointer) or {}).values()


def _tips() -> Iterable[str]:
    shown = subprocess.run(
        ["git", "for-each-ref", "--format=%(objectname)"], cwd=paths.root(), capture_output=True, text=True
    )
    return dict.fromkeys(shown.stdout.split()) if shown.returncode == 0 else ()
