"""The ledger: immutable rows that say what was made from what, by which code, where and when.

A folder of Parquet files below `data/`, versioned like the data. A row is one file until its run ends; then the rows
of the run become one file. Rows are never changed or removed; reading tolerates rows that occur twice, so that a
compaction can be killed anywhere. Files with columns or kinds that are not known here are from a newer Orbitforge: they
are refused, because an id covers all of a row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from orchestration import paths
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.locks import locked
from orchestration.versions import digest
from stages.documents import DocumentError, read_json

MADE, OBSERVED, RECALLED, PUBLISHED = "made", "observed", "recalled", "published"
ACCEPTED, WITHDRAWN, PROMOTED, IMPORTED = "accepted", "withdrawn", "promoted", "imported"
MLFLOW = "mlflow"
"""The service that registers models."""
CANDIDATE = "candidate"
"""The alias that every new version of a model gets there."""
FULL = 2_000
"""Rows of a ledger file that no compaction touches any more."""
KINDS = (MADE, OBSERVED, RECALLED, PUBLISHED, ACCEPTED, WITHDRAWN, PROMOTED, IMPORTED)


class File(NamedTuple):
    """One file of an artifact; `path` is relative to the artifact's folder, `size` in bytes."""

    path: str
    md5: str
    size: int


class Input(NamedTuple):
    """What was read: which version of which (shard of an) asset, and the row that made it."""

    asset: str
    shard: str | None
    version: str
    row: str


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. What each `kind` says:

    made: `version` of `folder` (below `data/`) was made of `inputs` by `code` under `config`. This row is the commit.
    observed: a shard of a source table, or a source folder, was found to hold `files`.
    recalled: the artifact of row `about` lies in `folder` again (its config or code came back).
    published: row `about` is known to `service` under the name `reference`.
    accepted: `code` gives what the code of row `about` gave, because of `reference`; `service` says what proved it.
    withdrawn: nothing of `about`, an id in the source table `asset`, may be used any more, because of `reference`;
        `files` were its bytes.
    promoted: row `about` got the alias `service`, because of `reference`.
    imported: the clips of shard `shard` of `asset` were made elsewhere and lie in the source folder `about`;
        `reference` says whence they come and under which licence.

    `by` is the person behind the last four. `key` is the hash of all that decides the bytes: equal keys, equal bytes.
    Times are UTC, ISO 8601.
    """

    kind: str
    preset: str
    asset: str
    shard: str | None = None
    folder: str = ""
    version: str = ""
    key: str = ""
    files: tuple[File, ...] = ()
    inputs: tuple[Input, ...] = ()
    code: str = ""
    code_modules: dict[str, str] = field(default_factory=dict)
    config_hash: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_diff: str | None = None
    dagster_run: str | None = None
    mlflow_run: str | None = None
    host: str = ""
    started: str = ""
    ended: str = ""
    seconds: float = 0.0
    bytes: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    about: str | None = None
    service: str | None = None
    reference: str | None = None
    by: str | None = None
    _id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """sha256 (160 bits of it: Dagster's tags hold 63 characters) of the canonical content, input rows included."""
        if not self._id:
            object.__setattr__(self, "_id", digest(self._content())[:40])
        return self._id

    def record(self) -> dict[str, Any]:
        """The row as a line of the table: dictionaries as canonical JSON."""
        content = self._content()
        return {"id": self.id} | {name: _dump(v) if name in _JSON else v for name, v in content.items()}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Row:
        """The row in a line of the table; the inverse of `record`."""
        values = {name: _kept(record[name]) for name in _FIELDS if record.get(name) is not None}
        values |= {name: _load(values[name]) for name in _JSON if name in values}
        values["files"] = files_of(values.get("files", ()))
        values["inputs"] = tuple(
            Input(**{name: _kept(said) for name, said in input_.items()}) for input_ in values.get("inputs", ())
        )
        return cls(**values)

    def _content(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in _FIELDS}
        content["files"] = [file._asdict() for file in sorted(self.files)]
        content["inputs"] = [input_._asdict() for input_ in self.inputs]
        content["seconds"] = float(self.seconds)  # a whole number would come back as another, and change the id
        for name in _LATER:
            if content[name] is None:  # rows from before it existed keep their ids
                del content[name]
        return content


def files_of(records: Iterable[dict[str, Any]]) -> tuple[File, ...]:
    return tuple(File(_kept(file["path"]), file["md5"], file["size"]) for file in records)


def _kept(value: Any) -> Any:
    """The same string once: rows of thousands of shards share most of what they say."""
    return _shared(value) if type(value) is str else value


@lru_cache(maxsize=4096)  # `sys.intern` would keep a place for each string that is there once
def _shared(text: str) -> str:
    return text


_JSON = ("code_modules", "config", "environment", "metrics")
_LATER = ("by",)
SCHEMA = pl.Schema(
    {name: pl.String() for name in ("id", "kind", "preset", "asset", "shard", "folder", "version", "key")}
    | {
        "files": pl.List(pl.Struct({"path": pl.String(), "md5": pl.String(), "size": pl.Int64()})),
        "inputs": pl.List(pl.Struct(dict.fromkeys(Input._fields, pl.String()))),
    }
    | {name: pl.String() for name in ("code", "code_modules", "config_hash", "config")}
    | {"seed": pl.Int64()}
    | {name: pl.String() for name in ("environment", "git_commit", "git_diff", "dagster_run", "mlflow_run")}
    | {name: pl.String() for name in ("host", "started", "ended")}
    | {"seconds": pl.Float64(), "bytes": pl.Int64(), "metrics": pl.String()}
    | {name: pl.String() for name in ("about", "service", "reference", "by")}
)
_FIELDS = tuple(name for name in SCHEMA if name != "id")


def utc() -> str:
    """What the clock says."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def after(latest: str) -> str:
    """What the clock says, or a microsecond after `latest` where the clock was set back behind it."""
    if (clock := utc()) > latest:
        return clock
    try:
        return (datetime.fromisoformat(latest) + timedelta(microseconds=1)).isoformat(timespec="microseconds")
    except ValueError:  # a person wrote something else than a time
        return clock


def now() -> str:
    """The time for a new row, after that of every row that the ledger holds.

    The newest row is what counts. Under a clock that was set back, or beside rows from a machine whose clock is ahead,
    what is made now would else be older than what it replaces.
    """
    return after(newest())


def newest() -> str:
    """The time of the newest row that the ledger holds; "" where it holds none."""
    ledger = Ledger()
    ledger.look()
    return _newest.get(ledger.folder, "")


def among(column: str, values: Iterable[str]) -> pl.Expr:
    """Rows whose `column` is one of `values`. Parquet then decodes the rest of these rows alone, as no join would."""
    return pl.col(column).is_in(pl.Series(list(values), dtype=pl.String).implode())


def about(row: Row, kind: str, **facts: Any) -> Row:
    """A row of `kind` that says something of `row`, from now on."""
    at = now()
    return Row(kind, row.preset, row.asset, row.shard, about=row.id, started=at, ended=at, **facts)


def recalled(row: Row) -> Row:
    """The row that says: the artifact of `row` lies in its folder again."""
    return about(row, RECALLED, folder=row.folder, version=row.version)


class Ledger:
    """The rows below `folder`. Appending is atomic; any number of processes may append at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.ledger()

    def append(self, *rows: Row) -> None:
        """Commit rows, all of them or none. Raises OrbitforgeError when the ledger cannot be written."""
        if rows:
            path = self._write(_table(row.record() for row in rows), f"row-{rows[0].id}")
            _written.setdefault(self.folder, set()).add(path.name)

    def check(self) -> None:
        """Raises OrbitforgeError when rows could not be appended."""
        probe = self.folder / f"probe.{os.getpid()}.tmp"
        with plain_errors(f"writing the ledger {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()

    def read(self) -> pl.DataFrame:
        """Every row once, oldest first. Raises OrbitforgeError for a file that is no ledger file or is newer."""
        return self._collect(_whole)

    def query(self, ask: Callable[[pl.LazyFrame], pl.LazyFrame], besides: Collection[str] = ()) -> pl.DataFrame:
        """What `ask` makes of all rows; it takes the memory of the answer, not of the ledger. Files named in `besides`
        are left out.

        In no order, and rows that a killed compaction left twice are there twice. Raises as `read` does.
        """
        return self._collect(lambda rows: ask(rows).collect(engine="streaming"), besides)

    def rows(self, ids: Iterable[str]) -> dict[str, Row]:
        """Id -> row, for those of `ids` that are there."""
        wanted = set(ids)
        found = self.query(lambda rows: rows.filter(among("id", wanted))) if wanted else pl.DataFrame()
        return {record["id"]: Row.of(record) for record in found.iter_rows(named=True)}

    def versions(self, ids: Iterable[str]) -> dict[str, str]:
        """Id -> data version, for those of `ids` that are there."""
        found = self.query(lambda rows: rows.filter(among("id", ids)).select("id", "version"))
        return dict(found.iter_rows())

    def _collect(self, ask: Callable[[pl.LazyFrame], pl.DataFrame], besides: Collection[str] = ()) -> pl.DataFrame:
        for _ in range(10):
            files = [file for file in self.files() if file.name not in besides]
            if not files:
                return ask(_table(()).lazy())
            try:
                _understand(files)
                return ask(_scan(files))
            except FileNotFoundError:  # compacted between listing and reading
                continue
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                told = " ".join(str(error).split())[:300]
                raise OrbitforgeError(f"{self.folder} holds a file that cannot be read: {told}") from None
        raise OrbitforgeError(f"{self.folder} changes faster than it can be read; try again")

    def look(self) -> None:
        """Take notice of files that are new since this process looked last. Raises as `read` does."""
        known = _understood.get(self.folder, set())
        if not known.issuperset(self.names()):
            self._collect(lambda rows: pl.DataFrame(), besides=known)

    def files(self, prefix: str = "") -> list[Path]:
        """The Parquet files, sorted."""
        return [self.folder / name for name in self.names() if name.startswith(prefix)]

    def names(self) -> tuple[str, ...]:
        """The names of its files, sorted. The files never change, so that equal names are equal rows."""
        try:
            there = os.listdir(self.folder)  # noqa: PTH208  # asked for with every commit
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(name for name in there if name.endswith(".parquet")))

    def own(self) -> set[str]:
        """The names of the files that this process wrote, with rows of its own."""
        return _written.get(self.folder, set())

    def compact(self, *, everything: bool = False) -> None:
        """Turn the single-row files into one, or all that are small into some of about `FULL` rows.

        Killed anywhere, it loses no row. It takes the memory of the rows of one file, however many there are.
        """
        with locked(paths.work() / "ledger.lock"):
            for files in self._small() if everything else [self.files("row-")]:
                if len(files) < 2:
                    continue
                _understand(files)
                table = _whole(_scan(files))
                merged = self._write(table, f"rows-{digest(table['id'].to_list())[:40]}")
                for file in files:
                    if file != merged:
                        file.unlink(missing_ok=True)

    def _small(self) -> Iterator[list[Path]]:
        """The files that are not full, by as many as fill one."""
        group, rows = [], 0
        for file in self.files():
            held = pl.scan_parquet(file).select(pl.len()).collect().item()
            if held >= FULL:
                continue
            group.append(file)
            if (rows := rows + held) >= FULL:
                yield group
                group, rows = [], 0
        yield group

    def _write(self, table: pl.DataFrame, name: str) -> Path:
        path = self.folder / f"{name}.parquet"
        temporary = self.folder / f"{name}.{os.getpid()}.tmp"
        with plain_errors(f"writing the ledger {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    table.write_parquet(file, compression="zstd")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        _understood.setdefault(self.folder, set()).add(path.name)  # it is our own
        _newest[self.folder] = max(_newest.get(self.folder, ""), *table["ended"])
        return path


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)  # thousands of shards share code, config and environment; nobody changes these dictionaries
def _load(text: str) -> Any:
    try:
        found = read_json(text)
        if not isinstance(found, dict):
            raise DocumentError(f"{text[:40]!r} is no map")
    except DocumentError as error:
        raise OrbitforgeError(
            f"the ledger holds a row that no Orbitforge wrote: {error}; see `orbitforge audit`"
        ) from None
    return found


def _scan(files: list[Path]) -> pl.LazyFrame:
    # columns that came later are empty in older files
    return pl.scan_parquet(files, schema=SCHEMA, missing_columns="insert", extra_columns="raise")


def _whole(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.unique("id", keep="first").sort("ended", "id").collect()


def _understand(files: list[Path]) -> None:
    """Refuse what a newer Orbitforge wrote, and note the time of the newest row."""
    for file in files:
        known = _understood.setdefault(file.parent, set())
        if file.name in known:
            continue
        unknown, ended = [f"column {name}" for name in pl.read_parquet_schema(file) if name not in SCHEMA], ""
        rows = pl.scan_parquet(file)
        if not unknown:
            seen = rows.select(pl.col("kind").unique().implode(), pl.col("ended").max()).collect()
            unknown = [f"kind {kind!r}" for kind in seen["kind"].item() if kind not in KINDS]
            ended = seen["ended"].item() or ""
        if not unknown and len(lost := rows.filter(_LEADS_OUT).select("id").collect()):
            raise OrbitforgeError(
                f"{file} holds row {lost['id'][0]}, whose files lie outside of data/: no Orbitforge wrote it; bring "
                "the ledger of data.dvc back with `git checkout` and `dvc checkout data/ledger`"
            )
        if unknown:
            raise OrbitforgeError(
                f"{file} was written by a newer Orbitforge ({', '.join(unknown)}); update Orbitforge, or go back to "
                "the data.dvc of this version with `git checkout` and `dvc checkout data/ledger`"
            )
        known.add(file.name)
        _newest[file.parent] = max(_newest.get(file.parent, ""), ended)


_newest: dict[Path, str] = {}  # folder of a ledger -> time of the newest row that this process has seen
_written: dict[Path, set[str]] = {}  # folder of a ledger -> names of the files that this process wrote into it
_understood: dict[Path, set[str]] = {}  # folder of a ledger -> names of the files that were looked at


_OUT = r"^/|(^|/)\.\.(/|$)"
_LEADS_OUT = (
    pl.col("folder").str.contains(_OUT)
    | pl.col("files").list.eval(pl.element().struct.field("path").str.contains(_OUT)).list.any()
)
"""Whether a row names files that its folder below data/ does not hold."""


def _table(records: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(records), schema=SCHEMA)
