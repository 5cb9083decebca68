"""The bench at a size that takes seconds: every row is there, and what it builds is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration import pipeline
from orchestration.cli.bench import lineage, lineage_work, lineage_world
from orchestration.lineage.audit.whole import audit
from orchestration.lineage.ledger import Ledger
from orchestration.lineage.staleness import status


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("ORBITFORGE_ROOT", "ORBITFORGE_PRESET"):
        monkeypatch.setenv(name, "set by the world")
    lineage_world.prepare(tmp_path)
    return lineage_world.fill(50)


def test_the_world_is_fresh_whole_and_as_large_as_asked(small: pipeline.Pipeline, monkeypatch: pytest.MonkeyPatch):
    states = {state.asset: state for state in status(small)}
    assert {state.status for state in states.values()} == {"fresh"}
    assert sum(len(state.shards) for state in states.values() if state.job == "chain" and state.shards[0].shard) == 50
    assert [finding for finding in audit(small).broken if finding.where not in ("dvc", "file")] == []
    facts: dict[str, float] = {}
    lineage_work.glb(facts)
    assert facts["rows"] > 50
    lineage_world.multiply(1000)
    assert len(Ledger().read()) >= 1000
    assert {state.status for state in status(small)} == {"fresh"}  # history is older


def test_rows_have_the_targets_that_were_promised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(lineage, "prepare", lambda root: None)
    monkeypatch.setattr(lineage, "fill", lambda shards: None)
    monkeypatch.setattr(lineage, "multiply", lambda rows: None)
    told = dict.fromkeys(("seconds", "mb", "stale", "cpu", "shards", "batches", "batch", "before"), 1)
    monkeypatch.setattr(lineage, "_child", lambda name, preset=None: told)
    rows = lineage._many(tmp_path, lambda line: None, 10_000, 1_000_000, 3)
    targets = {row.work.partition(",")[0]: row.target for row in rows if row.target}
    assert targets["recording a shard"] == 50
    assert {row.target for row in rows if row.unit == "s" and row.target} == {1.0, 2.0, 20.0}
    assert all(row.as_json()["met"] for row in rows if row.target and row.unit != "ms CPU")
