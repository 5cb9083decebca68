"""Every byte that the ledger and `data.dvc` name, in `data/` and in the cache, read anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import polars as pl

from orchestration import paths
from orchestration.lineage.audit.findings import DVC, FILE, Finding
from orchestration.lineage.audit.rows import RESTORE
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import OBSERVED, File
from orchestration.lineage.withdrawn import held, withdrawals
from orchestration.presets.schema import load_preset, preset_names
from orchestration.resources import store
from orchestration.steps import Source
from stages.errors import InputError

Hashes = Mapping[Path, str | OSError]


@dataclass
class Expected:
    """What should lie where: path -> (md5, who says so). `objects` are those the cache should hold, md5 -> for what.

    `purged` are md5s that a withdrawal took away on purpose.
    """

    purged: set[str]
    files: dict[Path, tuple[str, str]] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    """Artifacts of presets of which nothing is here, and of shards that the sources do not have any more."""
    told: list[Finding] = field(default_factory=list)
    """What can be said without reading: artifacts that are missing, or not yet in data.dvc."""
    homes: set[Path] = field(default_factory=set)
    """Folders that hold artifacts and nothing else."""

    def paths(self) -> list[Path]:
        return [*self.files, *map(store.object_path, self.objects)]


def expected(current: Current) -> Expected:
    """From the newest row of each artifact of every preset, the newest observation of each source, and `data.dvc`.

    Where a row and `data.dvc` disagree, the row is right: it is the commit, and `data.dvc` follows.
    """
    purged = {file.md5 for each in withdrawals(current.ledger).values() for file in each.files}
    # what is there again was made again, of something else
    found = Expected({md5 for md5 in purged if not store.object_path(md5).is_file()})
    given_up = cache(lambda: _given_up(current))
    recorded = store.recorded()
    homes = {path.name for path in paths.data().iterdir() if path.is_dir()} if paths.data().is_dir() else set()
    for folder, newest in current.everything.items():
        here = paths.data() / folder
        files = [file for file in newest.files if file.md5 not in found.purged]
        # rows ship with a model for its lineage; what they name beside it does not
        shipped = not any(f"{folder}/{file.path}" in recorded for file in files) and (
            folder.partition("/")[0] != current.pipeline.preset.name
            or not all(store.object_path(file.md5).is_file() for file in files)
        )
        if folder.partition("/")[0] not in homes or (not here.is_dir() and (shipped or folder in given_up())):
            found.absent.append(f"data/{folder}")
            continue
        found.homes.add(paths.data() / folder.partition("/")[0])
        found.objects |= {file.md5: f"data/{folder}/{file.path}" for file in files}
        if not here.is_dir():
            words = f"is missing, row {newest.row} names it with {len(newest.files)} files"
            found.told += [Finding(FILE, f"data/{folder}", words, _MEND)] if files else []
            continue
        found.files |= {here / file.path: (file.md5, f"row {newest.row}") for file in files}
        if not store.records(recorded, folder, files):
            found.told.append(_behind(folder))
    for path, file in _observed(current, found.absent):
        if file.md5 not in found.purged:
            found.files[path] = (file.md5, "the ledger")
            found.objects[file.md5] = _name(path)
            if recorded.get(path.relative_to(paths.data()).as_posix()) != file.md5:
                found.told.append(_behind(path.relative_to(paths.data()).as_posix()))
    for path, md5 in recorded.items():
        _add_recorded(found, current, paths.data() / path, md5)
    return found


def _add_recorded(found: Expected, current: Current, path: Path, md5: str) -> None:
    """What `data.dvc` records beyond the rows: the files of sources, and artifacts whose row is gone."""
    relative = path.relative_to(paths.data())
    home = paths.data() / relative.parts[0]
    if home == paths.ledger() or not home.is_dir() or md5 in found.purged:
        return
    if home not in found.homes:
        found.files.setdefault(path, (md5, "data.dvc"))
    elif not path.exists() and not any(parent.as_posix() in current.everything for parent in relative.parents):
        words = f"is recorded by data.dvc (md5 {md5}), but no row of the ledger made it, and it is not there"
        found.told.append(Finding(FILE, _name(path), words, RESTORE))


def file_findings(expected: Expected, hashes: Hashes) -> Iterator[Finding]:
    for path, (md5, who) in expected.files.items():
        top = paths.data() / path.relative_to(paths.data()).parts[0]
        way_out = _MEND if top in expected.homes else _EDITED.format(_name(top))
        yield from _compared(_name(path), hashes[path], md5, who, way_out)
    for md5, path in expected.objects.items():
        kept = store.object_path(md5)
        # a hard link is one file under two names: it is told once
        same = isinstance(found := hashes[kept], str) and found == hashes.get(paths.root() / path)
        if not same:
            yield from _compared(f"the cache object of {path}", found, md5, "its name", _IN_CACHE)
    yield from _strays(expected)
    yield from expected.told


def _compared(what: str, found: str | OSError, md5: str, who: str, way_out: str) -> Iterator[Finding]:
    if isinstance(found, FileNotFoundError):
        yield Finding(FILE, what, f"is missing, {who} names it (md5 {md5})", way_out)
    elif isinstance(found, OSError):
        yield Finding(FILE, what, f"cannot be read ({found.strerror})", way_out)
    elif found != md5:
        yield Finding(FILE, what, f"has md5 {found}, {who} says {md5}", way_out)


def _strays(expected: Expected) -> Iterator[Finding]:
    """Files beside those of an artifact, and folders of a preset that no row ever named."""
    for home in sorted(expected.homes):
        for path in sorted(home.rglob("*")):
            if path not in expected.files and not path.is_dir():
                yield Finding(FILE, _name(path), "has no row in the ledger", "`orbitforge run` sets it aside")


def _observed(current: Current, absent: list[str]) -> Iterator[tuple[Path, File]]:
    """The files of the newest observation of each source and shard, in the source folder of the preset that looked.

    Folders that are not here join `absent`. Tables of single shards lie in the cache alone.
    """
    sources = {source.name: source for source in current.pipeline.sources}
    rows = current.ledger.query(lambda rows: rows.filter(pl.col("kind") == OBSERVED))
    homes = {
        pair: home
        for pair in rows.select("preset", "asset").unique().iter_rows()
        if (home := _home(current, sources.get(pair[1]), pair[0]))
    }
    newest: dict[tuple[str, str, str | None], tuple[str, str]] = {}
    for preset, asset, shard, ended, id_ in rows.select("preset", "asset", "shard", "ended", "id").iter_rows():
        if home := homes.get((preset, asset)):
            newest[home, asset, shard] = max(newest.get((home, asset, shard), ("", "")), (ended, id_))
    where = {id_: (home, sources[asset]) for (home, asset, _), (_, id_) in newest.items()}
    absent += sorted({f"data/{home}" for home, _ in where.values() if not (paths.data() / home).is_dir()})
    here = [id_ for id_, (home, _) in where.items() if (paths.data() / home).is_dir()]
    for row in current.rows_of_ids(here):
        home, source = where[row.id]
        if not source.table and held(paths.data() / home, withdrawals(current.ledger)):
            continue  # what was observed is less than what lies there, which data.dvc records
        for file in row.files:
            if file.path != f"{source.table}.parquet":
                yield paths.data() / home / file.path, file


def _home(current: Current, source: Source | None, preset: str) -> str | None:
    """The folder below `data/` that a preset has of a source; None for sources and presets that are not known here."""
    if source is None or not source.table:
        return source and (source.folder or source.name)
    ours = current.pipeline.preset
    if preset == ours.name:
        return ours.source.folder
    return load_preset(preset).source.folder if preset in preset_names() else None


def _given_up(current: Current) -> set[str]:
    """Folders of the current preset whose shard no source table has any more."""
    tables = (source.table for source in current.pipeline.sources if source.table)
    try:
        shards = {shard for table in tables for shard in current.table(table)["shard"].unique()}
    except InputError:  # a table that is missing is told elsewhere, and gives nothing up
        return set()
    ours = [folder.split("/") for folder in current.everything if folder.startswith(f"{current.pipeline.preset.name}/")]
    return {"/".join(parts) for parts in ours if len(parts) > 2 and parts[-1] not in shards}


def _behind(path: str) -> Finding:
    return Finding(
        DVC, f"data/{path}", "is not in data.dvc as the ledger has it", "the next run records it", broken=False
    )


def _name(path: Path) -> str:
    return path.relative_to(paths.root()).as_posix()


# DVC and reconcile() believe a time stamp: what was changed under the same one has to go first
_MEND = (
    "remove it, and `orbitforge run` puts it back from the cache; if the cache lacks it, `dvc pull` it or make it again"
)
_EDITED = "if that is meant, record it with `dvc add {0}`; else remove it and bring it back with `dvc checkout {0}`"
_IN_CACHE = "remove it, then `dvc pull` it or make it again"
