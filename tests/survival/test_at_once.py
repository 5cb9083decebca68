"""Eight processes on one store: nothing is lost, nothing is there twice, nobody waits for ever."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from orchestration.labelling.corpus import Corpus, judged_before
from orchestration.labelling.session import Session
from orchestration.lineage.ledger import MADE, PROMOTED, PUBLISHED, WITHDRAWN, Ledger
from orchestration.locks import holder
from orchestration.resources import store
from stages.quality.judged import GOOD, Fault, read_labels
from stages.shards import write_shard
from tests.orchestration.test_labelling import clip
from tests.survival.toys import START, Toys

SERIAL = {name: f"{n // 2:03}" for n, name in enumerate(("ape", "bee", "cow", "doe", "elk", "fox", "gnu", "hen"))}
TEXTS = {f"prompt {n}": f"{n // 2:03}" for n in range(8)}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    return grown(tmp_path / "project", monkeypatch)


def grown(root: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    root.mkdir()
    toys = Toys(root, monkeypatch)
    toys.world.objects(SERIAL)
    toys.world.prompts(TEXTS)
    return toys


def whole(toys: Toys) -> None:
    """Every row is there once, and everybody says what the ledger says."""
    rows = Ledger().read()
    made = rows.filter(pl.col("kind") == MADE)
    assert Counter(made["folder"]) == Counter(made["folder"].unique()), "made twice"
    parquets = [pl.read_parquet(file, columns=["id"])["id"].to_list() for file in Ledger().files()]
    assert len({id_ for ids in parquets for id_ in ids}) == rows.height
    recorded = store.recorded()
    for row in made.iter_rows(named=True):
        for file in row["files"]:
            assert recorded[f"{row['folder']}/{file['path']}"] == file["md5"]
    here = {f"ledger/{file.name}" for file in Ledger().files()}
    assert here == {path for path in recorded if path.startswith("ledger/")}
    published = rows.filter(pl.col("kind") == PUBLISHED)
    assert published["reference"].to_list() == ["models:/toy-model/1"]
    with sqlite3.connect(toys.root / ".mlflow" / "mlflow.db") as mlflow:
        assert mlflow.execute("select name, version from model_versions").fetchall() == [("toy-model", 1)]
        assert mlflow.execute("select status from runs").fetchall() == [("FINISHED",)]
    assert toys.leftovers() == []
    assert [lock for lock in toys.root.glob(".work/**/*lock") if holder(lock, shared=True)] == []
    audited = toys.call("audit")
    assert audited.code == 0, audited.text
    again = toys.call("run")
    assert "nothing is stale" in again.text, again.text
    assert "put right" not in again.text, again.text


def test_eight_commands_on_one_store(toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = [
        *[toys.start("run") for _ in range(3)],
        toys.start("run", "--select", "views"),
        toys.start("run", "--select", "+manifest"),
        *[toys.start(name) for name in ("status", "audit")],
        toys.start("gc"),
    ]
    for command in commands:
        told = command.end()
        refused = "must wait" in told.error or "audit" in command.words
        assert told.code == 0 or refused, f"{command.words}: {told.text}"
        assert "Traceback" not in told.text, f"{command.words}: {told.text}"
    calls = Counter(toys.world.calls())
    assert calls["model None"] == 1  # what takes hours is made by one, and the others wait for it
    whole(toys)
    serial = grown(tmp_path / "serial", monkeypatch)
    assert serial.call("run").code == 0
    assert serial.made() == Toys.made(toys)


def test_eight_people_decide_at_once(toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert toys.call("run").code == 0
    gone = {"Ada": "bee", "Bo": "cow", "Cy": "elk", "Di": "gnu"}
    promoted = {"Ed": "production", "Flo": "staging"}
    why = ("--reason", "asked for", "--by")
    commands = {
        **{who: toys.start("withdraw", id_, *why, who) for who, id_ in gone.items()},
        **{
            who: toys.start("promote", "models:/toy-model/1", "--to", alias, *why, who)
            for who, alias in promoted.items()
        },
        **{who: toys.start("run") for who in ("Gil", "Hal")},
    }
    for who, command in commands.items():
        told = command.end()
        if told.code and "which was withdrawn" in told.text:  # as it must be from then on
            del promoted[who]
        else:
            assert told.code == 0, f"{command.words}: {told.text}"
    decided = Ledger().read().filter(pl.col("kind").is_in([WITHDRAWN, PROMOTED]))
    assert {(row["by"], row["about"]) for row in decided.filter(kind=WITHDRAWN).to_dicts()} == set(gone.items())
    assert {(row["by"], row["service"]) for row in decided.filter(kind=PROMOTED).to_dicts()} == set(promoted.items())
    assert toys.call("run").code == 0
    audited = toys.call("audit")
    assert audited.code == 0, audited.text
    assert toys.leftovers() == []
    assert [lock for lock in toys.root.glob(".work/**/*lock") if holder(lock, shared=True)] == []
    serial = grown(tmp_path / "serial", monkeypatch)
    for who, id_ in gone.items():
        assert serial.call("withdraw", id_, *why, who).code == 0
    assert serial.call("run").code == 0
    now = Toys.made(toys)
    assert {folder: now[folder] for folder in serial.made()} == serial.made()


def judge(root: Path, who: str) -> None:
    """Ten verdicts, saved three at a time, while others do the same."""
    corpus = Corpus(root / "data" / "tiny", "tiny")
    session = Session(corpus, root / "data" / "human_labels", root / ".work" / "labelling", who)
    for number, name in enumerate(sorted(corpus.candidates["clip"])[:10]):
        session.judge(name, GOOD, "")
        if number % 3 == 2:
            session.save()
    session.close()


def test_four_people_judge_at_once(tmp_path: Path):
    folder = tmp_path / "data" / "tiny" / "synthetic_corpus" / "p000"
    folder.mkdir(parents=True)
    write_shard(folder / "clips.tar", [clip(f"p{k:04d}") for k in range(10)])
    labels = tmp_path / "data" / "human_labels"
    labels.mkdir()
    people = ("Ada", "Bo", "Cy", "Di")
    processes = [START.Process(target=judge, args=(tmp_path, who)) for who in people]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    faults: list[Fault] = []
    rows = read_labels(labels, faults)
    assert faults == []
    assert Counter(rows["who"]) == dict.fromkeys(people, 10)
    assert rows.select("clip", "who").is_unique().all()
    assert rows["clip"].n_unique() == 10
    assert list(tmp_path.rglob("*.tmp")) == []
    judged = {(row["tar"], row["clip"]) for row in rows.iter_rows(named=True)}
    for tar, name in judged:  # every verdict has its pictures
        assert judged_before(labels, tar, name).views.shape[0] == 8
