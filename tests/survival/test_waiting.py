"""Who holds a lock and does not let go: others wait for a while, say for whom, and give up in one line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import Ledger
from orchestration.locks import HOURS, SECONDS, holder, locked
from orchestration.resources import store
from orchestration.workspace import Scratch
from tests.orchestration.world import World
from tests.survival.toys import START
from tests.waiting import until


def _hold(path: Path, held: Path) -> None:
    with locked(path):
        held.touch()
        time.sleep(600)


@contextmanager
def held_by_another(path: Path, *, stopped: bool = False) -> Iterator[int]:
    """Another process holds the lock `path`; its pid. It is gone afterwards."""
    sign = path.with_suffix(".held")
    process = START.Process(target=_hold, args=(path, sign), daemon=True)
    process.start()
    assert process.pid
    try:
        assert until(sign.exists, 120, pause=0.01)
        if stopped:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.05)
        yield process.pid
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("stopped", [False, True])
def test_the_ledger_and_data_dvc_name_who_holds_them(world: World, monkeypatch: pytest.MonkeyPatch, stopped: bool):
    world.make("views")
    monkeypatch.setenv(SECONDS, "0.3")
    for lock, doing in (("ledger.lock", Ledger().compact), ("publish.lock", lambda: store.publish({}, [world.data]))):
        with held_by_another(world.root / ".work" / lock, stopped=stopped) as pid:
            began = time.monotonic()
            with pytest.raises(OrbitforgeError, match=rf"{lock} is held by pid {pid} on \S+") as told:
                doing()
            assert 0.3 <= time.monotonic() - began < 5
            assert "\n" not in str(told.value)
            assert ("stopped" in str(told.value)) == stopped
            assert (f"kill -CONT {pid}" in str(told.value)) == stopped
        doing()  # the kernel let go with the process


def test_who_waits_for_the_same_says_so_and_gives_up_after_hours(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOURS, str(0.5 / 3600))
    monkeypatch.setenv(SECONDS, "0")
    told: list[str] = []
    scratch = Scratch.of("a", None, "key")
    with (
        held_by_another(scratch.folder / "lock", stopped=True) as pid,
        pytest.raises(OrbitforgeError, match=f"held by pid {pid} .*stopped.*{SECONDS} and {HOURS} say how long"),
        scratch.held("mine", told.append),
    ):
        raise AssertionError("nobody gets here")
    (line,) = told
    assert line.startswith(f"pid {pid} on")
    assert "stopped" in line


def test_a_run_beside_a_stopped_one_ends(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SECONDS, "0.3")
    with (
        held_by_another(world.root / ".work" / "commit.lock", stopped=True),
        pytest.raises(OrbitforgeError, match="is held by"),
    ):
        world.make("views")
    world.make("views")
    assert world.states()["views"] == "fresh"


def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for said in ("soon", "-1", "nan"):
        monkeypatch.setenv(SECONDS, said)
        with (
            pytest.raises(OrbitforgeError, match=f"{SECONDS}={said}: should be a number from 0"),
            locked(tmp_path / "x"),
        ):
            pass


def test_shared_locks_keep_out_who_wants_to_be_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SECONDS, "0.1")
    lock = tmp_path / "lock"
    with locked(lock, shared=True), locked(lock, shared=True):
        assert holder(lock) is None
        assert holder(lock, shared=True)
        with pytest.raises(OrbitforgeError), locked(lock):
            pass
    with locked(lock), pytest.raises(OrbitforgeError), locked(lock, shared=True):
        pass
    assert holder(lock, shared=True) is None


@pytest.mark.parametrize("left", ["", '{"write": {"da', "{}"])
def test_what_a_killed_dvc_left_is_mended(world: World, left: str):
    """DVC writes its list of locks, and data.dvc, in place."""
    world.make("views")
    before = store.recorded()
    (world.root / ".dvc" / "tmp" / "rwlock").write_text(left)
    (world.root / "data.dvc").write_text(left[:5])
    assert store.recorded() == {path: md5 for path, md5 in before.items() if path in store.recorded()}
    world.make("manifest")
    assert {path for path in store.recorded() if path.startswith("toy/")} > {
        path for path in before if path.startswith("toy/")
    }


def test_a_pointer_that_is_written_at_the_moment_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch):
    world.make("views")
    monkeypatch.setenv(SECONDS, "0.3")
    (world.root / "data.dvc").write_text("")
    with (
        held_by_another(world.root / ".work" / "publish.lock"),
        pytest.raises(OrbitforgeError, match=r"publish\.lock is held by"),
    ):
        store.pointer()
    assert store.pointer()
