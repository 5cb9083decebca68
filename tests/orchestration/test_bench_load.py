"""The bench of many shards, at the size of a few."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from orchestration import paths, pipeline
from orchestration.cli.bench import load, load_chart, load_work, load_world, registry
from orchestration.errors import OrbitforgeError
from orchestration.lineage.staleness import status

ROOT = Path(__file__).parents[2]


def test_a_world_of_tiny_shards_passes_through_the_real_commands(tmp_path: Path):
    """In a process of its own: definitions are of one preset."""
    script = f"from {__name__} import passes; from pathlib import Path; passes(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def passes(root: Path) -> None:
    os.environ["ORBITFORGE_WORKERS"] = "1"
    load_work.LAST = 2
    load_world.build(root, 6)
    load_work.making()
    states = {state.asset: state for state in status(pipeline.current())}
    counts = states["synthetic_corpus"].as_json()["shards"]
    assert (counts["fresh"], counts["missing"], counts["total"]) == (4, 2, 6)
    assert states["video_model"].status == "fresh"
    load_work.resuming()
    load_work._run(load_world.LABELS)
    load_work.manifest()
    manifest = pl.read_parquet(paths.data() / "bench" / "corpus_manifest" / "manifest.parquet")
    assert manifest["verdict"].to_list() == ["accepted"] * 6
    states = {state.asset: state.status for state in status(pipeline.current())}
    assert states["synthetic_corpus"] == states["quality_labels"] == states["corpus_manifest"] == "fresh"
    load_work.lineage()


def test_a_process_is_measured_with_its_workers():
    program = """
import json, multiprocessing, time
def work():
    until = time.process_time() + 0.6
    while time.process_time() < until: pass
    time.sleep(1)  # it is still there when it is looked at
if __name__ == "__main__":
    print(json.dumps({"name": "a", "cpu": time.process_time()}), flush=True)
    began = time.process_time()
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start(); worker.join()
    print(json.dumps({"seconds": 1.0, "cpu": time.process_time(), "peak": 99.0}), flush=True)
"""
    step = load.measured([sys.executable, "-c", program])["a"]
    assert step.cpu == pytest.approx(0.6, abs=0.15)
    assert (step.seconds, step.peak) == (1.0, 99.0)
    with pytest.raises(OrbitforgeError, match=r"exit code 1: ZeroDivisionError"):
        load.measured([sys.executable, "-c", "1 / 0"])


def test_what_a_shard_costs_stands_beside_fewer_and_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    making = load.MAKING[0]

    def world(shards: int, report: object) -> dict[str, load.Step]:
        steps = {words: load.Step(shards / 100, shards / 50, 500.0, (400.0, 450.0)) for words in load.MEMORY}
        return steps | {"plan": load.Step(1.0, (shards / 1000) ** 2, 300.0, (300.0, 300.0))}

    monkeypatch.setattr(load, "_world", world)
    rows = load.measure(lambda line: None)
    found = {(row.work, row.unit): row.as_json() for row in rows}
    each = found[f"{making}, 10,000 shards", load_chart.EACH]
    assert (each["ours"], each["target"], each["met"]) == (20.0, 50.0, True)
    assert found[f"{making}: a shard of 10,000 over one of 3,000", "times CPU"]["met"]
    quadratic = found["plan: a shard of 10,000 over one of 3,000", "times CPU"]
    assert (quadratic["ours"], quadratic["met"]) == (pytest.approx(10 / 3), False)
    assert found[f"{making}: memory at the end of 10,000, beside a quarter of the way", "MB"]["met"]
    load_chart.draw(rows, tmp_path / "load.svg")
    text = (tmp_path / "load.svg").read_text()
    for word in (making, "plan", "10,000", "CPU milliseconds a shard"):
        assert word in text
    first = (tmp_path / "load.svg").read_bytes()
    load_chart.draw(rows, tmp_path / "load.svg")
    assert (tmp_path / "load.svg").read_bytes() == first
    with pytest.raises(OrbitforgeError, match="bench render draws no chart; load does"):
        registry.bench_command("render", as_json=False, chart=tmp_path / "x.svg")
