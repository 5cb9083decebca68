"""What must not be used any more, and what is left of the sources without it."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import WITHDRAWN, File, Ledger, files_of

ID_COLUMNS = ("id", "object", "clip")
"""Columns of the sources that name an object, a prompt or a judged clip."""


class Withdrawal(NamedTuple):
    """`id` of the source `asset` was withdrawn at the time `at`; `files` were its bytes, where those were purged.

    `cause` is what a person withdrew: the object, where `id` is a prompt or a judged clip that shows it.
    """

    id: str
    cause: str
    asset: str
    shard: str | None
    reason: str
    by: str | None
    at: str
    files: tuple[File, ...]


def withdrawals(ledger: Ledger | None = None) -> Mapping[str, Withdrawal]:
    """Id -> its withdrawal."""
    ledger = ledger or Ledger()
    return _withdrawals(ledger.folder, ledger.names())


@lru_cache(maxsize=4)
def _withdrawals(folder: Path, _names: tuple[str, ...]) -> Mapping[str, Withdrawal]:
    gone = Ledger(folder).query(lambda rows: rows.filter(pl.col("kind") == WITHDRAWN)).sort("ended", "id")
    found: dict[str, Withdrawal] = {}
    for row in gone.iter_rows(named=True):
        cause = json.loads(row["config"]).get("cause", row["about"])
        first = Withdrawal(
            row["about"], cause, row["asset"], row["shard"], row["reference"], row["by"], row["ended"], files=()
        )
        known = found.get(row["about"], first)  # its bytes may have been purged later than it was withdrawn
        found[row["about"]] = known._replace(files=(*known.files, *files_of(row["files"])))
    return found


def without(table: pl.DataFrame, ids: Iterable[str]) -> pl.DataFrame:
    """The rows of a source table that name none of `ids`, neither as their own id nor as their object."""
    return table.filter(~names(table, ids))


def names(table: pl.DataFrame, ids: Iterable[str]) -> pl.Expr:
    """Whether a row of a source table names one of `ids`."""
    wanted = pl.Series(sorted(ids), dtype=pl.String).implode()
    columns = [pl.col(column).is_in(wanted).fill_null(False) for column in ID_COLUMNS if column in table.columns]
    return pl.any_horizontal(columns) if columns else pl.lit(False)


def held(folder: Path, ids: Iterable[str]) -> list[str]:
    """Those of `ids` that the tables of a source folder name, sorted."""
    wanted = set(ids)
    found: set[str] = set()
    for path in folder.rglob("*.parquet") if wanted else ():
        table = _table(path)
        for column in ID_COLUMNS:
            if column in table.columns:
                found |= wanted & set(table[column])
    return sorted(found)


def copy_without(folder: Path, ids: Iterable[str], target: Path) -> None:
    """Copy a source folder without the rows, and without the samples of its archives, that belong to `ids`."""
    gone, samples = set(ids), set(ids)
    target.mkdir(parents=True)
    for path in sorted(folder.rglob("*.parquet")):
        table = _table(path)
        kept = without(table, gone)
        if "clip" in table.columns:
            samples |= set(table["clip"]) - set(kept["clip"])
        if len(kept) == len(table):
            shutil.copyfile(path, target / path.relative_to(folder))
        elif len(kept):
            kept.write_parquet(target / path.relative_to(folder))
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".parquet"):
        if path.suffix == ".tar":
            _copy_archive(path, target / path.relative_to(folder), samples)
        else:
            shutil.copyfile(path, target / path.relative_to(folder))


def _table(path: Path) -> pl.DataFrame:
    """Raises OrbitforgeError for a file that is not whole: what it names cannot be taken out of it."""
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        why = " ".join(str(error).split())[:120]
        raise OrbitforgeError(f"{path} is no Parquet file ({why}); write it again or remove it") from error


def _copy_archive(archive: Path, target: Path, gone: set[str]) -> None:
    """Members are copied as they are, so that an archive stays canonical."""
    with tarfile.open(archive) as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            if member.name.partition(".")[0] not in gone:
                new.addfile(member, old.extractfile(member))
