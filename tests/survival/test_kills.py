"""What the harness looks at after a kill: each wrong thing is seen. The kills: `make torture` and .ci/run."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.survival import store as stores
from tests.survival.kills import Blow, Tally
from tests.survival.store import Store, lost

CONTENT = b"views"
MD5 = hashlib.md5(CONTENT).hexdigest()
ROW = {
    "id": "r1",
    "kind": "made",
    "preset": "nano",
    "asset": "views",
    "shard": "000",
    "folder": "nano/views/000",
    "version": "v1",
    "key": "k1",
    "files": [{"path": "views.tar", "md5": MD5, "size": len(CONTENT)}],
    "ended": "2026-01-01",
}


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A project in which one artifact was made, and nothing is wrong."""
    monkeypatch.setattr(stores, "PATIENCE", 0.5)
    store = Store(tmp_path)
    put(store.object(MD5), CONTENT)
    put(store.data / "nano/views/000/views.tar", CONTENT)
    (store.data / "ledger").mkdir()
    pl.DataFrame([ROW]).write_parquet(store.data / "ledger/row-r1.parquet")
    listing = json.dumps([{"relpath": "nano/views/000/views.tar", "md5": MD5}]).encode()
    pointer = hashlib.md5(listing).hexdigest() + ".dir"
    put(store.object(pointer), listing)
    (tmp_path / "data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": pointer}]}))
    assert store.wrong() == []
    yield store
    for process in store.processes():
        process.kill()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


HOLD = """
import fcntl, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
file = path.open("w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: put(s.object(MD5), b"vie"), "is not what it is called"),
        (lambda s: put(s.data / "nano/views/000/views.tar", b"vie"), "is no version of the ledger"),
        (lambda s: (s.data / "nano/views/000/views.tar").unlink(), "is no version of the ledger"),
        (lambda s: put(s.data / "nano/views/001/views.tar", CONTENT), "belongs to no row"),
        (lambda s: put(s.root / "data.dvc", b"outs:"), "data.dvc or its list cannot be read"),
        (lambda s: s.object(MD5).unlink(), "data.dvc names what is nowhere"),
    ],
)
def test_what_is_torn_is_seen(sound: Store, spoil: Callable[[Store], Any], told: str):
    sound._sound.clear()
    spoil(sound)
    assert any(found.startswith(told) for found in sound.wrong())


def test_an_artifact_that_is_not_placed_yet_is_no_half_one(sound: Store):
    (sound.data / "nano/views/000/views.tar").unlink()
    (sound.data / "nano/views/000").rmdir()
    assert sound.wrong() == []


def test_a_process_that_lives_on_is_seen_and_ended(sound: Store):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=sound.environment())
    assert any(f"lives on: {other.pid}" in told for told in sound.wrong())
    other.wait(10)
    assert sound.wrong() == []


def test_a_lock_that_is_held_is_seen(sound: Store):
    lock = sound.root / ".work/views/000/k1/lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert sound.wrong() == [f"still locked: {lock}"]
    holder.kill()
    holder.wait()
    assert sound.wrong() == []


def test_what_is_finished_counts_before_and_after_its_row(sound: Store):
    put(sound.root / ".work/model/_/k2/done.json", b"{}")
    assert sound.finished() == {("views", "000"), ("model", None)}
    assert sound.versions() == {("views", "000"): "v1"}


def test_work_is_lost_since_the_newest_state(sound: Store):
    folder = sound.root / ".work/model/_/k2"
    (folder / "inputs").mkdir(parents=True)
    began = (folder / "inputs").stat().st_mtime
    assert lost(sound, began, began + 7) == {("model", None): 7}
    assert lost(sound, began + 1, began + 7) == {}  # it was begun by an earlier start
    state = put(folder / "state/training/step=15.ckpt", b"").stat().st_mtime
    assert lost(sound, began, state + 2) == {("model", None): 2}


def test_a_log_has_whole_lines_and_kills_at_its_moment(tmp_path: Path):
    script = """
from pathlib import Path
from tests.survival.watched import Log
log = Log(Path("log"), 3)
for number in range(9):
    log.moment(f"moment {number}")
"""
    environment = {"PYTHONPATH": str(stores.CHECKOUT), "ORBITFORGE_SURVIVAL_SIGNAL": "9", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    assert done.returncode == -9
    assert [line["moment"] for line in stores.reports(tmp_path / "log")] == [f"moment {n}" for n in range(3)]
    with (tmp_path / "log").open("a") as log:
        log.write('{"at": 1.0, "mom')
    assert len(stores.reports(tmp_path / "log")) == 3


def test_the_tally_tells_what_went_wrong_and_what_it_cost():
    tally = Tally([Blow("SIGKILL", "moment 3", ["views"], seconds_lost=2.0, wrong=["torn"]), Blow("a worker", "")])
    assert "2 kills, 1 restarts" in tally.words()
    assert "seconds of work lost: median 2.0, at most 2.0" in tally.words()
    assert tally.all_wrong == ["after SIGKILL (moment 3): torn"]
