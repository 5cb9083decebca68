from __future__ import annotations

import io
import multiprocessing
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.errors import OrbitforgeError
from orchestration.lineage import ledger as ledgers
from orchestration.lineage.ledger import MADE, SCHEMA, File, Input, Ledger, Row, recalled

words = st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(
    Row,
    kind=st.just(MADE),
    preset=words,
    asset=words,
    shard=st.none() | words,
    version=words,
    files=st.lists(st.builds(File, words, words, st.integers(0, 2**40)), max_size=3).map(lambda f: tuple(sorted(f))),
    inputs=st.lists(st.builds(Input, words, st.none() | words, words, words), max_size=3).map(tuple),
    code_modules=st.dictionaries(words, words, max_size=2),
    config=st.dictionaries(words, st.none() | numbers | st.lists(st.integers()) | words, max_size=3),
    seed=st.none() | st.integers(0, 2**63 - 1),
    seconds=numbers,
    metrics=st.dictionaries(words, numbers, max_size=2),
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    return Ledger()


def row(number: int = 0, **values: object) -> Row:
    return Row(MADE, "tiny", "a", str(number), f"tiny/a/{number}", ended=f"2030-01-01T00:00:{number:02}", **values)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(rows)
def test_a_row_comes_back_as_it_was(row: Row):
    file = io.BytesIO()
    pl.DataFrame([row.record()], schema=SCHEMA).write_parquet(file)
    file.seek(0)
    (record,) = pl.read_parquet(file).to_dicts()
    assert Row.of(record) == row
    assert Row.of(record).id == record["id"] == row.id


def test_an_id_covers_all_content_and_the_rows_that_were_read():
    one = row(inputs=(Input("b", None, "v", "row-1"),))
    assert one.id == row(inputs=(Input("b", None, "v", "row-1"),)).id
    assert one.id != row(inputs=(Input("b", None, "v", "row-2"),)).id
    assert len({one.id, row().id, row(seconds=1.0).id, row(1).id}) == 4
    assert len(one.id) <= 63  # Dagster's limit for a tag


def test_rows_survive_compaction_in_their_order(ledger: Ledger):
    assert ledger.read().is_empty()
    for number in (2, 0, 1):
        ledger.append(row(number))
    before = ledger.read()
    assert before["shard"].to_list() == ["0", "1", "2"]
    ledger.compact()
    assert len(list(ledger.folder.iterdir())) == 1
    assert ledger.read().equals(before)
    ledger.append(row(3), row(4))
    ledger.append(row(5))
    ledger.compact()
    assert len(list(ledger.folder.iterdir())) == 2  # what was compacted once stays as it is
    ledger.compact(everything=True)
    assert len(list(ledger.folder.iterdir())) == 1
    assert len(ledger.read()) == 6


def test_what_fills_a_file_is_not_compacted_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledgers, "FULL", 4)
    for number in range(11):
        ledger.append(row(number))
    before = ledger.read()
    ledger.compact(everything=True)
    full = {path for path in ledger.folder.iterdir() if len(pl.read_parquet(path)) == 4}
    assert sorted(len(pl.read_parquet(path)) for path in ledger.folder.iterdir()) == [3, 4, 4]
    assert ledger.read().equals(before)
    ledger.append(row(11))
    ledger.compact(everything=True)
    assert full < set(ledger.folder.iterdir())
    assert len(list(ledger.folder.iterdir())) == 3
    assert len(ledger.read()) == 12


def test_a_compaction_killed_half_way_loses_and_doubles_nothing(ledger: Ledger):
    for number in range(3):
        ledger.append(row(number))
    singles = {path: path.read_bytes() for path in ledger.folder.iterdir()}
    ledger.compact()
    for path, content in singles.items():
        path.write_bytes(content)  # killed before they were removed
    (ledger.folder / "rows-x.123.tmp").write_bytes(b"half")
    assert len(ledger.read()) == 3
    ledger.compact(everything=True)
    assert len(list(ledger.folder.glob("*.parquet"))) == 1


def _append_many(first: int) -> None:
    ledger = Ledger()
    for number in range(first, first + 5):
        ledger.append(row(number))
        ledger.compact()


def test_processes_append_and_compact_at_once(ledger: Ledger):
    spawn = multiprocessing.get_context("spawn")
    crew = [spawn.Process(target=_append_many, args=(first,)) for first in (0, 10)]
    for process in crew:
        process.start()
    while any(process.is_alive() for process in crew):
        ledger.read()  # never sees half a file
        time.sleep(0.01)
    assert all(process.exitcode == 0 for process in crew)
    assert len(ledger.read()) == 10


def test_older_files_lack_columns_that_came_later(ledger: Ledger):
    ledger.append(row(0))
    (path,) = ledger.folder.iterdir()
    pl.read_parquet(path).drop("mlflow_run", "metrics").with_columns(id=pl.lit("old")).write_parquet(
        ledger.folder / "rows-old.parquet"
    )
    assert set(ledger.read()["id"]) == {"old", row(0).id}
    assert Row.of(ledger.read().filter(id="old").to_dicts()[0]).metrics == {}


def test_a_newer_ledger_is_refused_and_left_as_it_is(ledger: Ledger):
    ledger.append(row(0))
    (path,) = ledger.folder.iterdir()
    for name, change in {"column shape": {"shape": 1}, "kind 'split'": {"kind": pl.lit("split")}}.items():
        newer = ledger.folder / f"rows-{len(name)}.parquet"
        pl.read_parquet(path).with_columns(**change).write_parquet(newer)
        before = newer.read_bytes()
        for reads in (ledger.read, lambda: ledger.compact(everything=True), lambda: ledger.rows([row(0).id])):
            with pytest.raises(OrbitforgeError, match=f"newer Orbitforge \\({name}\\); update Orbitforge, or go back"):
                reads()
        assert newer.read_bytes() == before
        newer.unlink()


def test_rows_from_before_a_field_existed_keep_their_ids():
    """Ids that shipped; by whom came later."""
    assert row().id == "7ffaad9cc4728a0a781b31ecf8ac2d38b7934724"
    assert row(by="Ada").id != row().id
    assert "by" not in row()._content()


def test_a_query_sees_what_reading_sees(ledger: Ledger):
    for number in range(3):
        ledger.append(row(number))
    assert set(ledger.query(lambda rows: rows.select("id"))["id"]) == set(ledger.read()["id"])
    assert ledger.rows([row(1).id, "none"]) == {row(1).id: row(1)}
    assert ledger.rows([]) == {}


def test_what_cannot_be_read_or_written_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    ledger.append(row())
    (ledger.folder / "rows-bad.parquet").write_text("no parquet")
    with pytest.raises(OrbitforgeError, match="ledger"):
        ledger.read()
    with pytest.raises(OrbitforgeError, match="a file stands where a folder belongs"):
        Ledger(ledger.folder / "rows-bad.parquet" / "deep").append(row())


def test_a_recall_names_the_row(ledger: Ledger):
    again = recalled(row())
    assert again.about == row().id
    assert (again.folder, again.version) == (row().folder, row().version)
