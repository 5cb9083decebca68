"""The same shards by every engine: bytes, retries, and machines that are lost. Ray is a cluster of two local nodes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from orchestration.assets import synthetic_corpus
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import load_preset
from orchestration.resources.engines import local
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Report
from orchestration.resources.shards import map_shards
from orchestration.steps import Work
from orchestration.versions import file_md5
from stages.errors import InputError
from stages.objects.sources import PROMPTS, read_table
from tests.survival.clusters import Nodes, two_nodes
from tests.waiting import until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """Two nodes of one CPU each, on loopback."""
    with two_nodes() as nodes:
        yield nodes


def on_ray(cluster: Nodes, **more: Any) -> EngineConfig:
    return EngineConfig(name="ray", address=cluster.address, **more)


class Shard(NamedTuple):
    """Prompts of a shard as a step gets them, and where it writes; both on the disk that all nodes share."""

    name: str
    inputs: Path
    model: Path
    output: Path


def generate(shard: Shard, report: Report) -> dict[str, str]:
    """The real stage at nano size."""
    output = shard.output / shard.name
    scratch = shard.output / f"scratch-{shard.name}"
    output.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(exist_ok=True)
    synthetic_corpus.make(
        Work(
            asset="synthetic_corpus",
            shard=shard.name,
            inputs={"prompts": shard.inputs, "video_model": shard.model, "base_models": shard.model.parent},
            output=output,
            scratch=scratch,
            preset=load_preset("nano"),
            seed=7,
            report=report,
        )
    )
    return {path.name: file_md5(path) for path in sorted(output.iterdir())}


@pytest.fixture(scope="module")
def corpus(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Three shards of one prompt."""
    table = read_table(sample_data, load_preset("nano").source, PROMPTS)
    folder = tmp_path_factory.mktemp("corpus")
    shards = []
    for number in range(3):
        inputs = folder / f"in-{number}"
        inputs.mkdir()
        (inputs / "meshes").symlink_to(sample_data / "source" / "meshes")
        table[number : number + 1].write_parquet(inputs / "prompts.parquet")
        shards.append(Shard(f"{number:03}", inputs, sample_data / "base_models" / "video", folder / "here"))
    return shards


def moved(shards: list[Shard], output: Path) -> list[Shard]:
    return [shard._replace(output=output) for shard in shards]


@pytest.fixture(scope="module")
def expected(corpus: list[Shard]) -> dict[str, Any]:
    return hashes(map_shards(generate, corpus, EngineConfig(workers=1)))


def hashes(results: Any) -> dict[str, Any]:
    return {shard.name: result for shard, result in results}


def test_bytes_depend_neither_on_workers_nor_on_order(corpus: list[Shard], expected: Any, tmp_path: Path):
    assert all("clips.tar" in files for files in expected.values())
    assert len({files["clips.tar"] for files in expected.values()}) == len(corpus)
    shuffled = random.Random(1).sample(moved(corpus, tmp_path), len(corpus))
    assert hashes(map_shards(generate, shuffled[::-1], EngineConfig(workers=2), models=True)) == expected


def preloaded(item: str, report: Report) -> tuple[bool, str | None, str | None]:
    return "torch" in sys.modules, os.environ.get("OMP_NUM_THREADS"), os.environ.get("SAID_LATE")


def test_workers_that_run_models_share_their_imports(monkeypatch: pytest.MonkeyPatch):
    for said in ("once", "twice"):  # the second crew comes of the server that the first one started
        monkeypatch.setenv("SAID_LATE", said)
        results = [value for _, value in map_shards(preloaded, ["a", "b"], EngineConfig(workers=2), models=True)]
        assert results == [(True, "1", said)] * 2


def test_what_is_preloaded_can_be_forked():
    code = (
        "import os, sys, orchestration.resources.engines.preloaded; "
        "assert len(os.listdir('/proc/self/task')) == 1; assert 'polars' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_ray_gives_the_bytes_of_this_process(corpus: list[Shard], expected: Any, tmp_path: Path, cluster: Nodes):
    seen: list[tuple[str, Any]] = []
    results = map_shards(
        generate, moved(corpus, tmp_path), on_ray(cluster), report=lambda s, e: seen.append((s.name, e.get("step")))
    )
    assert hashes(results) == expected
    assert {("000", 1), ("001", 1), ("002", 1)} <= set(seen)


def where(item: float, report: Report) -> tuple[str, str | None]:
    import ray

    report({"step": 1, "of": 2})
    time.sleep(item)
    return ray.get_runtime_context().get_node_id(), os.environ.get("OMP_NUM_THREADS")


def test_shards_land_on_both_nodes_with_one_thread_each(cluster: Nodes):
    results: list[Any] = [value for _, value in map_shards(where, [1.0] * 6, on_ray(cluster))]
    assert len({node for node, _ in results}) == 2
    assert {threads for _, threads in results} == {"1"}


class Attempts(NamedTuple):
    """`name` says what happens; each try leaves a line in `log`."""

    name: str
    log: Path


def troubled(item: Attempts, report: Report) -> str:
    with item.log.open("a") as log:
        log.write("tried\n")
    tries = len(item.log.read_text().splitlines())
    if item.name == "poison":
        raise ValueError("poisoned")
    if item.name == "flaky" and tries == 1:
        raise ConnectionError("gone for a moment")
    if item.name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    if item.name == "input":
        raise InputError("an empty table; give it rows")
    return item.name


@pytest.mark.parametrize("name", ["here", "local", "forked", "ray"])
def test_a_poisoned_shard_is_set_aside_after_its_retries(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    here = {"here": 1, "local": 2, "forked": 2}
    engine = (
        EngineConfig(workers=here[name], retries=2)
        if name in here
        else on_ray(request.getfixturevalue("cluster"), retries=2)
    )
    names = ["poison", "flaky", "input", "a", "b"] + ["killer"] * (name != "here")
    items = [Attempts(each, tmp_path / each) for each in names]
    told: list[str] = []
    results: dict[str, Any] = {
        item.name: value
        for item, value in map_shards(
            troubled,
            items,
            engine,
            models=name == "forked",
            report=lambda item, event: told.append(f"{item.name}: {event['message']}"),
        )
    }
    assert {each: results[each] for each in ("flaky", "a", "b")} == {"flaky": "flaky", "a": "a", "b": "b"}
    assert isinstance(results["poison"], ValueError)
    assert isinstance(results["input"], InputError)
    tries = {item.name: len(item.log.read_text().splitlines()) for item in items}
    assert (tries["poison"], tries["flaky"], tries["input"], tries["a"]) == (3, 2, 1, 1)
    assert told.count("poison: failed, will be tried again: poisoned") == 2
    if name != "here":
        assert tries["killer"] == 3
        assert isinstance(results["killer"], OrbitforgeError)


def test_a_node_that_dies_costs_time_alone(corpus: list[Shard], expected: Any, tmp_path: Path, cluster: Nodes):
    killed = threading.Event()

    def kill_after_the_first_report(*_: Any) -> None:
        if not killed.is_set():
            killed.set()
            cluster.kill_second()

    results = hashes(
        map_shards(
            slowly,
            moved(corpus, tmp_path),
            on_ray(cluster, retries=3),
            report=lambda s, e: kill_after_the_first_report(),
        )
    )
    assert killed.is_set()
    assert not cluster.cluster.worker_nodes
    assert results == expected


def slowly(shard: Shard, report: Report) -> Any:
    """So that both nodes work on something when the first report arrives."""
    report({"step": 0, "of": 1})
    time.sleep(1)
    return generate(shard, report)


ALONE = """
import sys
from pathlib import Path
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.shards import map_shards
from tests.orchestration.test_shards import wait_for_ever
list(map_shards(wait_for_ever, [Path(sys.argv[1])], EngineConfig(name="ray", workers=1)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cluster_of_our_own_listens_on_loopback_and_ends_with_us(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"ORBITFORGE_ROOT": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path / "pid")], env=environment, cwd=Path.cwd())
    try:
        assert until((tmp_path / "pid").exists, 120)
        ours = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
        listening = {c.laddr.ip for p in ours for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert listening
        assert ours[-1].environ().get("RAY_USAGE_STATS_ENABLED") == "0"
    finally:
        parent.kill()
        parent.wait()
    idle = [p for p in ours if p.is_running() and p.name().endswith("Agent")]  # they end a minute later
    others = [process for process in ours if process not in idle]
    assert until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in others))
    for process in idle:
        process.kill()


def test_an_absent_cluster_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    import ray

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody\nthere")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(OrbitforgeError, match=r"^no Ray cluster at 10\.0\.0\.1:6379: nobody there$"):
        list(map_shards(where, [0.0], EngineConfig(name="ray", address="10.0.0.1:6379")))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OrbitforgeError, match=r"pip install 'orbitforge\[ray\]'"):
        list(map_shards(where, [0.0], EngineConfig(name="ray")))


def device(item: int, report: Report) -> tuple[int, str | None]:
    time.sleep(0.5)  # so that both workers get one
    return item, os.environ.get("CUDA_VISIBLE_DEVICES")


def test_local_workers_that_run_models_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "_gpus", lambda: ["3", "5"])
    found = {value[1] for _, value in map_shards(device, range(4), EngineConfig(workers=2), models=True)}  # type: ignore[index]
    assert found == {"3", "5"}
