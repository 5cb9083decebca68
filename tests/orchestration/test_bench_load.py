"""The bench of many shards, at the size of a few."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration import pipeline
from orchestration.cli.bench import load, load_work
from orchestration.lineage.staleness import status


def test_half_of_the_corpus_is_made_and_its_shards_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("ORBITFORGE_ROOT", "ORBITFORGE_PRESET"):
        monkeypatch.setenv(name, "set by the world")
    load_work.build(tmp_path, 12)
    states = {state.asset: state for state in status(pipeline.current())}
    counts = states["synthetic_corpus"].as_json()["shards"]
    assert (counts["fresh"], counts["missing"], counts["total"]) == (6, 6, 12)
    assert states["video_model"].status == "fresh"
    clock = load_work.Clock()
    load_work.status(clock)
    assert clock.found["status --why"][0] > 0


def test_every_step_stands_beside_the_smaller_world(monkeypatch: pytest.MonkeyPatch):
    def world(shards: int, report: object) -> load._World:
        return load._World({"plan": (shards / 1000, 0.5), load.MADE: (20.0, 15.0)}, 500.0)

    monkeypatch.setattr(load, "_world", world)
    rows = {(row.work.partition(",")[0], row.unit): row.as_json() for row in load.measure(lambda line: None)}
    assert rows["plan", "s"]["ours"] == 10.0
    assert rows["plan", "s"]["peer"] == 1.0
    assert rows["plan", "s"]["met"]
    assert rows["making a shard", "ms CPU"]["target"] == 50
