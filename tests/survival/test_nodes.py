"""Nodes of a Ray cluster that are not fit, a head and a main process that are killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestration.locks import holder
from tests.orchestration.world import build
from tests.survival.clusters import Nodes, two_nodes
from tests.waiting import until

REASONS = {
    "other code": "the code of toy.stage was edited meanwhile",
    "another folder": "does not see the project's folder",
    "full disk": "no space left on the disk",
}


def mounts(root: Path, folder: Path) -> dict[str, list[str]]:
    """What each bad machine mounts over the project that all see."""
    code = folder / "stage.py"
    code.write_text((root / "src/toy/stage.py").read_text().replace("views)", "views + 1)"))
    for name in ("cluster", "views"):
        (root / ".work" / name).mkdir(parents=True)
    return {
        "other code": ["--bind", str(code), str(root / "src/toy/stage.py")],
        "another folder": ["-t", "tmpfs", "none", str(root / ".work/cluster")],
        "full disk": ["-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", str(root / ".work/views")],
    }


MOUNTED = 'count=$1; shift; mount "${@:1:$count}"; shift $count; exec "$@"'


def add_bad_node(nodes: Nodes, mount: list[str]) -> Any:
    """A node of one CPU in a mount namespace of its own."""
    from ray._private import ray_constants, services

    start: Any = services.start_ray_process

    def within(command: list[str], kind: str, *more: Any, **options: Any) -> Any:
        if kind == ray_constants.PROCESS_TYPE_RAYLET:
            command = ["unshare", "--mount", "bash", "-c", MOUNTED, "bash", str(len(mount)), *mount, *command]
        return start(command, kind, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "start_ray_process", within)
        return nodes.start()


def may_unshare() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with two_nodes() as nodes:
        yield nodes


@pytest.mark.skipif(not may_unshare(), reason="mount namespaces are not allowed here")
def test_what_a_bad_node_cannot_do_is_done_by_a_good_one(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    world = build(tmp_path / "world", monkeypatch)
    shards = {f"object{number}": f"{number:03}" for number in range(10)}
    world.objects(shards)
    mounted = mounts(world.root, tmp_path)
    told: list[str] = []
    monkeypatch.setattr("tests.orchestration.world.Log.info", lambda self, line: told.append(line))
    monkeypatch.setattr("tests.orchestration.world.Log.error", lambda self, line: told.append(line))
    monkeypatch.setenv("ORBITFORGE_ENGINE", "ray")
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    monkeypatch.setenv("ORBITFORGE_WORKERS", "10")
    bad = [add_bad_node(nodes, mount) for mount in mounted.values()]
    world.make("views")
    ray.shutdown()
    for node in bad:
        nodes.cluster.remove_node(node)
    assert world.states()["views"] == "fresh"
    for reason in REASONS.values():
        assert any(re.search(f"failed, will be tried again: .*{reason}", line) for line in told), (reason, told)
    texts = {path.name: path.read_text() for path in (world.data / "toy/views").rglob("*.txt")}
    assert texts == {f"{name}.txt": f"{name} mesh of {name} 16" for name in shards}


DRIVER = """
import sys
from pathlib import Path
from orchestration.cli.app import app
from orchestration.resources.engines import on_ray
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.shards import map_shards
from tests.survival.beats import beat

on_ray.PULSE, on_ray.PATIENCE = 0.5, 2.0

@app.callback()
def group() -> None:
    pass  # so that there are commands

@app.command()
def beats(folder: Path) -> None:
    list(map_shards(beat, [folder / name for name in "abcd"], EngineConfig(name="ray")))

app()
"""


@contextmanager
def driver(nodes: Nodes, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has work going on on both nodes."""
    folder.mkdir()
    told = os.environ | {"RAY_ADDRESS": nodes.address, "ORBITFORGE_ROOT": str(folder)}
    command = [sys.executable, "-c", DRIVER, "beats", str(folder)]
    ours = subprocess.Popen(command, env=told, stderr=subprocess.PIPE, text=True)
    try:
        assert until(lambda: len(list(folder.glob("?"))) == 2, 90)
        yield ours
    finally:
        ours.kill()
        ours.communicate()


def still(folder: Path) -> bool:
    """Whether nothing is written for a second."""
    before = [file.stat().st_size for file in sorted(folder.glob("?"))]
    time.sleep(1)
    return before == [file.stat().st_size for file in sorted(folder.glob("?"))]


def test_nothing_is_written_after_the_main_process_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    with driver(nodes, tmp_path / "project") as ours:
        ours.kill()
        ours.wait()
        locks = list((tmp_path / "project").glob("?.lock"))
        assert len(locks) == 2
        assert until(lambda: not any(map(holder, locks)), 60)
        assert still(tmp_path / "project")


def test_a_head_that_is_killed_ends_the_run_in_one_line(nodes: Nodes, tmp_path: Path) -> None:
    """The last one: it takes the cluster with it."""
    with driver(nodes, tmp_path / "project") as ours:
        nodes.cluster.remove_node(nodes.cluster.head_node, allow_graceful=False)
        _, errors = ours.communicate(timeout=60)
    assert ours.returncode == 1
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert re.fullmatch(r"error: the head of the Ray cluster at .*:\d+ is gone; what was finished is kept: .*", told[0])
    assert "Traceback" not in errors
