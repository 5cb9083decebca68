from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from orchestration.errors import MachineError, OrbitforgeError
from orchestration.presets.schema import PresetError, load_preset
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Report, Tries, WorkerDiedError
from orchestration.resources.shards import map_shards
from tests.waiting import until


class UnportableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def work(item: Any, report: Report) -> Any:
    report({"step": 1})
    if item == "raise":
        raise ValueError("cannot")
    if item == "unportable":
        raise UnportableError(1, 2)
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "exit":
        os._exit(7)
    return item, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def test_few_items_stay_in_this_process():
    result: Any
    ((item, result),) = map_shards(work, ["a"], EngineConfig(workers=4))
    assert (item, result[1]) == ("a", os.getpid())
    results: dict[Any, Any] = dict(map_shards(work, ["a", "raise", "b"], EngineConfig(workers=1)))
    assert isinstance(results["raise"], ValueError)
    assert results["b"][1] == os.getpid()
    assert list(map_shards(work, [])) == []


def test_a_shard_that_fails_or_kills_its_worker_hurts_no_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    events: list[tuple[Any, dict[str, Any]]] = []
    items = ["a", "die", "raise", "b", "unportable", "exit", "c"]
    results: dict[Any, Any] = dict(
        map_shards(work, items, EngineConfig(workers=2), report=lambda item, event: events.append((item, event)))
    )
    assert set(results) == set(items)
    for good in ("a", "b", "c"):
        value, pid, threads = results[good]
        assert (value, threads) == (good, "1")
        assert pid != os.getpid()
        assert not psutil.pid_exists(pid)
    assert isinstance(results["raise"], ValueError)
    assert "Traceback" in results["raise"].__notes__[0]
    assert "1 and 2" in str(results["unportable"])
    assert isinstance(results["die"], OrbitforgeError)
    assert "killed by signal 9" in str(results["die"])
    assert "fewer workers" in str(results["die"])
    assert "ended with code 7" in str(results["exit"])
    assert ("a", {"step": 1}) in events
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_what_no_machine_can_begin_is_tried_no_longer_than_other_things():
    for error, turns in ((MachineError("no module"), 1), (WorkerDiedError("gone"), 2)):
        tries = Tries(["a"], 1, lambda item, event: None)
        found: list[Any] = []
        for _ in range(turns):
            assert not found
            found += tries.outcome(tries.waiting.popleft(), error, None, ("one", "two"))
        assert found == [("a", error)]


def test_an_unknown_engine_is_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match="abacus"):
        EngineConfig.model_validate("abacus")
    preset = tmp_path / "p.yaml"
    preset.write_text("engine: abacus")
    with pytest.raises(PresetError, match=r"`engine\.name` is 'abacus'"):
        load_preset(str(preset))


def wait_for_ever(item: Path, report: Report) -> None:
    item.write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_die_with_their_parent(tmp_path: Path, how: signal.Signals):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(folder=str(tmp_path))], stderr=subprocess.DEVNULL, cwd=Path.cwd()
    )
    assert until(lambda: len(list(tmp_path.iterdir())) == 2)
    assert until(lambda: all(path.read_text() for path in tmp_path.iterdir()))
    children = [int(path.read_text()) for path in tmp_path.iterdir()]
    parent.send_signal(how)
    parent.wait(10)
    assert until(lambda: not any(map(psutil.pid_exists, children)))


_PARENT = """
import signal
from pathlib import Path
from orchestration.resources.shards import map_shards
from orchestration.resources.engines.config import EngineConfig
from tests.orchestration.test_shards import wait_for_ever
folder = Path({folder!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
list(map_shards(wait_for_ever, [folder / "a", folder / "b"], EngineConfig(workers=2)))
"""
