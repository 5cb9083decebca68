"""Taking the bytes of something withdrawn away: from `data/`, from the cache and from every remote."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from orchestration import paths
from orchestration.errors import plain_errors
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import MADE, File, Row
from orchestration.lineage.sources import labels, observe
from orchestration.lineage.withdraw import Entry, observed_with
from orchestration.lineage.withdrawn import copy_without
from orchestration.resources import store
from orchestration.steps import Source, Step
from orchestration.versions import file_md5
from orchestration.workspace import remove


def to_purge(current: Current, gone: Iterable[Entry], held: Iterable[Row]) -> list[File]:
    """The files to take away, their paths below `data/`: meshes that nobody else uses, and shards that show what went.

    Weights that learned from it are no copy of it; they stay until they are made again.
    """
    gone, held = list(gone), list(held)
    found: dict[str, File] = {}
    for source in {entry.source.name: entry.source for entry in gone}.values():
        for file in _of_source(current, source, gone):
            found[file.md5] = file
    parts = {entry.shard for entry in gone} - {None}
    for row in held:
        step = current.pipeline.find(row.asset)
        if isinstance(step, Step) and step.shards and row.shard in parts:
            found |= {file.md5: file._replace(path=f"{row.folder}/{file.path}") for file in row.files}
    others = _used_elsewhere(current, found, {row.id for row in held})
    return sorted(file for md5, file in found.items() if md5 not in others)


def _used_elsewhere(current: Current, md5s: Iterable[str], held: set[str]) -> set[str]:
    """Those of `md5s` that artifacts have which do not hold what goes: empty tables, say, are all alike."""
    wanted = pl.LazyFrame({"md5": list(md5s)}, schema={"md5": pl.String})
    used = current.ledger.query(
        lambda rows: (
            rows.filter((pl.col("kind") == MADE) & ~pl.col("id").is_in(sorted(held)))
            .select(md5=pl.col("files").list.eval(pl.element().struct.field("md5")))
            .explode("md5")
            .join(wanted, on="md5", how="semi")
            .unique()
        )
    )
    return set(used["md5"])


def purge(current: Current, gone: Iterable[Entry], files: Iterable[File]) -> None:
    """Take `files` away and bring `data.dvc` in line. May be repeated after a kill.

    Raises OrbitforgeError before anything is touched when a remote does not answer.
    """
    gone, files = list(gone), list(files)
    md5s = {file.md5 for file in files}
    names = list(store.remotes())
    there = {remote: md5s - store.lacking(remote, md5s) for remote in names if md5s}
    for source in {entry.source.name: entry.source for entry in gone}.values():
        if not source.table:
            _rewrite(source, {entry.id for entry in gone if entry.source == source})
            observe(now := Current(current.pipeline), source, None)
            now.write_seen()
    changed = set(_remove_from_data(files))
    for md5 in md5s:
        with plain_errors(f"removing {store.object_path(md5)}"):
            store.object_path(md5).unlink(missing_ok=True)
    for remote, held in there.items():
        store.remove_from(remote, held)
    folders = {paths.data() / Path(*path.relative_to(paths.data()).parts[:2]) for path in changed}
    sources = {paths.data() / (source.folder or source.name) for source in current.pipeline.sources if not source.table}
    tables = {paths.data() / current.pipeline.preset.source.folder}
    store.publish({}, also=[*folders, *sources, *tables, paths.ledger()])


def _of_source(current: Current, source: Source, gone: list[Entry]) -> Iterator[File]:
    ids = sorted({entry.id for entry in gone})
    if source.table:
        table = current.pipeline.whole_table(source.table)
        named = pl.col("id").is_in(ids)
        used = set(table.filter(~named)["md5"])
        home = current.pipeline.preset.source.folder
        for file, md5 in table.filter(named).select("file", "md5").unique().iter_rows():
            if md5 and md5 not in used:  # prompts that are drawn from their text have none
                yield File(f"{home}/{file}", md5, _size(md5))
        return
    tars = set(labels(source).filter(pl.col("clip").is_in(ids))["tar"])
    folder = source.folder or source.name
    for tar in tars:  # as it lies there, and as it was whenever somebody read it
        path = paths.data() / folder / tar
        if path.is_file():
            yield File(f"{folder}/{tar}", file_md5(path), path.stat().st_size)
    for row in observed_with(current, [entry for entry in gone if entry.source == source]):
        for file in row.files:
            if file.path in tars:
                yield file._replace(path=f"{folder}/{file.path}")


def _size(md5: str) -> int:
    kept = store.object_path(md5)
    return kept.stat().st_size if kept.is_file() else 0


def _rewrite(source: Source, ids: set[str]) -> None:
    """Put a source folder without `ids` in the place of the one that has them."""
    home = paths.data() / (source.folder or source.name)
    aside = paths.work() / "observed" / uuid.uuid4().hex
    try:
        with plain_errors(f"rewriting {home}"):
            aside.mkdir(parents=True)
            copy_without(home, ids, aside / "new")
            home.rename(aside / "old")
            (aside / "new").rename(home)
    finally:
        if not home.exists() and (aside / "old").exists():
            (aside / "old").rename(home)
        remove(aside)


def _remove_from_data(files: list[File]) -> Iterator[Path]:
    """The files that still are what they were; newer ones in their places stay. Empty folders go, too."""
    paths_of = {paths.data() / file.path: file.md5 for file in files}
    for path, found in hash_files(paths_of).items():
        if found == paths_of[path]:
            with plain_errors(f"removing {path}"):
                path.unlink()
                if not any(path.parent.iterdir()):
                    shutil.rmtree(path.parent)
            yield path
