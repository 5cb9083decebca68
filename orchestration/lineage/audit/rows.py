"""The ledger against itself, and against what `data.dvc` recorded of it, here and in git."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.findings import DVC, LEDGER, Finding
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import SCHEMA, WITHDRAWN, Ledger, Row
from orchestration.resources import store

RESTORE = "remove the file and bring it back with `dvc checkout data/ledger`, from an earlier data.dvc if need be"
_SLICE = 10_000


def ledger_findings(ledger: Ledger) -> Iterator[Finding]:
    """Rows whose id is not that of their content, rows that name one that is gone, and rows that were taken away."""
    ids: set[str] = set()
    for file in ledger.files():
        try:
            table = pl.read_parquet(file)
        except FileNotFoundError:
            raise OrbitforgeError("the ledger was compacted while it was read; audit again when no run ends") from None
        except pl.exceptions.PolarsError as error:
            words = " ".join(str(error).split())
            yield Finding(LEDGER, _name(file), f"cannot be read ({words})", RESTORE)
            continue
        ids |= set(table["id"])
        yield from _changed(file, table)
    yield from _dangling(ledger, ids)
    yield from _removed(ledger, ids)


def _changed(file: Path, table: pl.DataFrame) -> Iterator[Finding]:
    lacking = {name: pl.lit(None, kind) for name, kind in SCHEMA.items() if name not in table.columns}
    for part in table.with_columns(**lacking).iter_slices(_SLICE):
        for record in part.iter_rows(named=True):
            try:
                honest = Row.of(record).id == record["id"]
            except (ValueError, TypeError, OrbitforgeError):
                honest = False
            if not honest:
                what = f"row {record['id']} ({_told(record)}) in {_name(file)}"
                yield Finding(LEDGER, what, "was changed: its id is not that of its content", RESTORE)


def _dangling(ledger: Ledger, ids: Set[str]) -> Iterator[Finding]:
    known = pl.LazyFrame({"named": sorted(ids)}, schema={"named": pl.String})
    told = ("id", "kind", "preset", "asset", "shard")

    def parents(rows: pl.LazyFrame) -> pl.LazyFrame:
        read = rows.select(*told, named=pl.col("inputs").list.eval(pl.element().struct.field("row"))).explode("named")
        about = rows.filter(pl.col("kind") != WITHDRAWN).select(*told, named="about")
        return pl.concat([read, about]).filter(pl.col("named") != "").join(known, on="named", how="anti").unique()

    for record in ledger.query(parents).sort("id", "named").iter_rows(named=True):
        yield Finding(
            LEDGER,
            f"row {record['named']}",
            f"is gone, but {record['kind']} row {record['id']} ({_told(record)}) names it",
            RESTORE,
        )


def _removed(ledger: Ledger, ids: Set[str]) -> Iterator[Finding]:
    """Ledger files are added and, when compacted, merged: what was recorded once is there still."""
    here = {file.name: file for file in ledger.files()}
    hashes = hash_files(here.values())
    seen: set[str] = set()
    for pointer, where in ((store.pointer(), "data.dvc"), (store.pointer("HEAD"), "data.dvc of git's HEAD")):
        recorded = (store.listed(pointer) if pointer else None) or {}
        for path, md5 in recorded.items():
            if not path.startswith(f"{ledger.folder.name}/") or md5 in seen:
                continue
            seen.add(md5)
            file = here.get(Path(path).name)
            if file and hashes[file] == md5:
                continue
            if file:
                yield Finding(
                    LEDGER, f"data/{path}", f"has md5 {hashes[file]}, {where} recorded {md5}: it was rewritten", RESTORE
                )
            kept = store.object_path(md5)
            if not kept.is_file() or hash_files([kept])[kept] != md5:
                if not file:
                    words = f"is neither here nor in the cache, and {where} recorded it (md5 {md5})"
                    yield Finding(LEDGER, f"data/{path}", words, "fetch it with `dvc pull data/ledger`")
                continue
            for record in pl.read_parquet(kept).filter(~pl.col("id").is_in(sorted(ids))).iter_rows(named=True):
                yield Finding(
                    LEDGER,
                    f"row {record['id']} ({_told(record)})",
                    f"was removed: {where} recorded it in {path}",
                    RESTORE,
                )


def pointer_findings() -> Iterator[Finding]:
    """`data.dvc` itself: whether it is there, and names a list that is there and whole."""
    pointer = store.pointer()
    if pointer is None:
        yield Finding(DVC, "data.dvc", "is missing", "bring it back with `git checkout -- data.dvc`, or run the chain")
        return
    kept = store.object_path(pointer)
    if not kept.is_file():
        yield Finding(
            DVC,
            "data.dvc",
            f"names the list {pointer}, which is not in the cache: what it records cannot be held against the files",
            "fetch it with `dvc fetch`, or bring data.dvc back to a revision that fits with `git checkout -- data.dvc`",
        )
    elif (md5 := hash_files([kept])[kept]) != pointer.removesuffix(".dir"):
        yield Finding(DVC, f"the list {pointer} of data.dvc", f"has md5 {md5}", "remove it and `dvc fetch` it again")


def _told(record: dict[str, str | None]) -> str:
    name = f"{record['preset']}/{record['asset']}"
    return f"{name}[{record['shard']}]" if record["shard"] else name


def _name(file: Path) -> str:
    return f"data/{file.parent.name}/{file.name}"
