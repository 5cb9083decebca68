"""Memory that ends, by limits of the system and by its OOM killer: one line with the way out, nothing lost, and the
next run ends as if nothing had been. ORBITFORGE_SURVIVAL=long starves the real chain of nano at many sizes."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from orchestration.locks import holder
from tests.survival.starved import Group, hold_to, may_group
from tests.survival.store import MARK, Store
from tests.survival.toys import Told, Toys
from tests.waiting import until

MB = 1 << 20
HUNGER = 1000 * MB
"""What making a shard of views, and the model, takes for a moment: in a worker, and in the command's own process."""
ROOMY = 1200 * MB
"""All but a hungry worker: the command, two workers and their imports take 460 MB, with one that is hungry 1,410."""
LIMITS = {"address space": resource.RLIMIT_AS, "data": resource.RLIMIT_DATA}
SIZES = {"address space": "VmSize", "data": "VmData"}
"""As /proc/PID/status calls what counts."""
WORDS = ("not enough memory", "or memory is", "raise the limit, or remove it")
CODES = 1, -signal.SIGABRT, -signal.SIGSEGV
"""How the command ends, and how libraries that get no memory end it."""
PATIENCE = 900.0
"""Seconds for a run of nano beside others."""

grouped = pytest.mark.skipif(bool(may_group()), reason=may_group())
long = pytest.mark.skipif(os.environ.get("ORBITFORGE_SURVIVAL") != "long", reason="minutes; ORBITFORGE_SURVIVAL=long")


def hungry(root: Path, patch: pytest.MonkeyPatch) -> Toys:
    root.mkdir()
    toys = Toys(root, patch)
    stages = root / "src" / "toy" / "makes.py"
    text = stages.read_text()
    for stage in ("views", "model"):
        first = 'Path("/proc/self/oom_score_adj").write_text("1000")'  # to be killed, of those in a group
        call = f'called(work, "{stage}")\n'
        text = text.replace(call, f'{call}    {first}\n    b"x" * {HUNGER}\n')
    stages.write_text(text)
    return toys


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        toys = hungry(tmp_path_factory.mktemp("undisturbed") / "project", patch)
        told = toys.call("run", environment={"ORBITFORGE_WORKERS": "2"})
        assert told.code == 0, told.text
        return toys.made()


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    return hungry(tmp_path / "project", monkeypatch)


def refused(told: Told, *codes: int) -> None:
    """The command said in one line, and once, what a person can do."""
    assert told.code in (codes or (1,)), told.text
    assert any(word in told.error for word in WORDS), told.text
    assert [line.startswith("error: ") for line in told.text.splitlines()].count(True) == 1, told.text
    assert "Traceback" not in told.text, told.text
    assert "Stack Trace" not in told.text, told.text


def starved(toys: Toys, undisturbed: dict[str, str], before: Callable[[Path], object], workers: int = 1) -> Told:
    """A run that is started so, and what must hold after it; then one that nothing holds back ends as it must."""
    mark = Store(toys.root).mark
    told = toys.call("run", before=before, environment={"ORBITFORGE_WORKERS": str(workers), MARK: mark})
    assert Store(toys.root, mark=mark)._alive() == []
    assert locked(toys) == []
    assert toys.leftovers() == []
    assert undisturbed.items() >= toys.made().items()
    kept = set(toys.made())
    toys.world.calls()
    again = toys.call("run")
    assert again.code == 0, again.text
    assert toys.made() == undisturbed
    remade = {f"toy/{name}".removesuffix("/None") for name in ("/".join(call.split()) for call in toys.world.calls())}
    assert not remade & kept
    return told


def locked(toys: Toys) -> list[Path]:
    """What is locked and stays so: a process that was killed gives its memory back first, then its files."""

    def held() -> list[Path]:
        return [lock for lock in toys.root.glob(".work/**/*lock") if holder(lock, shared=True)]

    until(lambda: not held(), 5)
    return held()


def with_room(kind: str, room: int, root: Path) -> None:
    """The command may take so much more than it has when it starts."""
    found = re.search(rf"{SIZES[kind]}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    hold_to(LIMITS[kind], int(found[1]) * 1024 + room)


@pytest.mark.parametrize(
    ("kind", "room"), [("address space", 0), ("address space", 30), ("address space", 300), ("data", 0), ("data", 300)]
)
def test_a_limit_at_any_moment(toys: Toys, undisturbed: dict[str, str], kind: str, room: int):
    refused(starved(toys, undisturbed, partial(with_room, kind, room * MB)), *CODES)


def test_a_limit_that_suffices(toys: Toys, undisturbed: dict[str, str]):
    told = starved(toys, undisturbed, partial(with_room, "data", 3 * HUNGER))
    assert told.code == 0, told.text


@grouped
def test_the_system_kills_a_worker(toys: Toys, undisturbed: dict[str, str]):
    with Group(ROOMY) as group:
        told = starved(toys, undisturbed, group.join, workers=2)
    refused(told)
    assert "its worker process was killed by signal 9" in told.error


@grouped
def test_the_system_kills_the_command(toys: Toys, undisturbed: dict[str, str]):
    with Group(HUNGER) as group:
        told = starved(toys, undisturbed, group.join, workers=1)
    refused(told, -signal.SIGKILL)


# the real chain


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.clone(tmp_path_factory.mktemp("nano") / "project")
    store.run("run", "--dry-run")  # fetches the sample data
    return store


def call(store: Store, *arguments: str, before: Callable[[], object] | None = None) -> Told:
    """The real command, in a process of its own from its first line on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli.main", *arguments],
        cwd=store.root,
        env=store.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=before,
    )
    try:
        text, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return Told(None, f"hangs; {process.communicate()[0]}")
    assert store.wrong() == []
    return Told(process.returncode, text)


@pytest.mark.parametrize(("kind", "size"), [("address space", 100), ("address space", 700), ("data", 60)])
def test_less_than_the_libraries_take(nano: Store, kind: str, size: int):
    began = time.monotonic()
    refused(call(nano, "run", before=lambda: hold_to(LIMITS[kind], size * MB)))
    assert time.monotonic() - began < 20


@grouped
def test_the_system_kills_the_command_as_it_starts(nano: Store):
    with Group(60 * MB) as group:
        refused(call(nano, "run", before=group.join), -signal.SIGKILL)


def test_workers_that_cannot_load_their_libraries(nano: Store):
    refused(call(nano, "run", "--select", "rendered_views", before=lambda: hold_to(resource.RLIMIT_AS, 3500 * MB)))


@long
@pytest.mark.parametrize("kind", LIMITS)
def test_the_chain_at_any_size(nano: Store, tmp_path: Path, kind: str):
    """Each size starts where the one before ended, and the last has no limit."""
    whole = nano.copy(tmp_path / "whole")
    assert call(whole, "run").code == 0
    store = nano.copy(tmp_path / "starved")
    for size in {"address space": range(4600, 6400, 400), "data": range(500, 2300, 400)}[kind]:
        told = call(store, "run", before=lambda size=size: hold_to(LIMITS[kind], size * MB))
        if told.code:
            refused(told, *CODES)
    assert call(store, "run").code == 0
    assert store.versions() == whole.versions()
