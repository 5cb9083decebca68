"""Shards done, rate and time left: their arithmetic, where they are shown, and what is left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestration import artifacts, progress
from orchestration.cli.progress import Bars
from orchestration.cli.status import status_text
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.progress import Progress, running, words
from orchestration.resources.engines.config import EngineConfig
from orchestration.tasks import plan
from tests.orchestration.world import CLIPS, MODEL, World, make_of

STEP = replace(CLIPS, unit="clips")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0]))
    return now


def test_rate_and_time_left_count_what_this_run_made(clock: list[float]):
    watch = Progress(STEP, "toy", of=10, fresh=2)
    assert (watch.rate, watch.left, watch.share) == (None, None, 0.2)
    clock[0] += 10
    watch.hear("002", {"step": 50, "of": 100})
    watch.hear("003", {"step": 50, "of": 100})
    # one shard's worth in 10 s, 7 are left; what was there before says nothing about the pace
    assert (watch.rate, watch.left, watch.share) == (10.0, pytest.approx(70), pytest.approx(0.3))
    clock[0] += 10
    watch.hear("002", {"step": 100, "of": 100})
    watch.finish("002")
    watch.hear("003", {"step": 80, "of": 100})
    watch.finish("003", failed=True)
    assert watch.rate == 5.0  # clips of a shard that failed were not made
    assert watch.left == pytest.approx(60)
    assert watch.words() == "3 of 10 shards, 1 failed, 5 clips/s, 60 s left"


def test_a_training_that_goes_on_counts_from_where_it_began(clock: list[float]):
    watch = Progress(MODEL, "toy")
    clock[0] += 60
    watch.hear(None, {"step": 500, "of": 1000})
    assert watch.rate is None
    clock[0] += 10
    watch.hear(None, {"step": 600, "of": 1000})
    assert (watch.rate, watch.left) == (10.0, pytest.approx(40))
    assert watch.words() == "60%, 10 steps/s, 40 s left"


def test_a_line_in_the_log_every_ten_seconds_and_a_heartbeat_while_it_runs(world: World, clock: list[float]):
    with Progress(STEP, "toy", of=4) as watch:
        assert not watch.due()  # a step of seconds says nothing
        assert running("clips", "toy") == watch.as_json() | {
            "at": 1000.0,
            "pid": os.getpid(),
        }
        clock[0] += 9
        assert not watch.due()
        clock[0] += 2
        assert watch.due()
        assert not watch.due()
    assert running("clips", "toy") is None


def test_status_shows_what_runs(world: World):
    world.make("views", "manifest", "model")
    task = plan(current := Current(world.pipeline), current.wanted(CLIPS, "000"), make_of("clips"))
    watch = Progress(CLIPS, "toy", of=2)
    watch.write()
    assert world.status()["clips"].progress is None  # nobody holds it: a killed run left that behind
    with task.scratch.held("toy pid 1 on here"):
        state = world.status()["clips"]
        assert state.status == "running"
        assert state.as_json()["progress"]["shards"] == 2
        assert "0 of 2 shards; heard 0 s ago" in status_text([state], "", why=False).plain


def test_a_run_tells_its_listeners_how_far_it_is(world: World, monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(
        artifacts,
        "LISTENERS",
        [lambda asset, shard, event: seen.append(event["progress"]) if "progress" in event else 0],
    )
    world.make("views")
    assert (seen[-1]["done"], seen[-1]["shards"], seen[-1]["share"]) == (2, 2, 1.0)
    assert running("views", "toy") is None


def test_bars_show_it(clock: list[float]):
    console = Console(width=140, record=True)
    told = {"shards": 10, "done": 3, "failed": 0, "share": 0.3, "rate": 3.4, "unit": "clips", "left": 300.0}
    bars = Bars(console)
    bars.hear("clips", "001", {"step": 1, "of": 2, "loss": 0.5})
    bars.hear("clips", "001", {"progress": told})
    (task,) = bars.progress.tasks
    assert task.completed == 0.3
    assert task.fields["note"] == "3 of 10 shards, 3.4 clips/s, 5 min left  001  1 of 2  loss 0.5"
    bars.hear("clips", "002", {"step": 2, "of": 2})
    assert bars.progress.tasks[0].completed == 0.3  # one shard is not all
    assert words(told) == "3 of 10 shards, 3.4 clips/s, 5 min left"


def test_the_engine_is_the_presets_and_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch):
    said = EngineConfig.model_validate("ray")
    monkeypatch.delenv("ORBITFORGE_WORKERS", raising=False)
    assert artifacts.engine_of(CLIPS, said) == said
    assert artifacts.engine_of(MODEL, said) == artifacts.ALONE
    monkeypatch.setenv("ORBITFORGE_ENGINE", "local")
    monkeypatch.setenv("ORBITFORGE_WORKERS", "3")
    found = artifacts.engine_of(CLIPS, said)
    assert (found.name, found.workers) == ("local", 3)
    monkeypatch.setenv("ORBITFORGE_ENGINE", "abacus")
    with pytest.raises(
        OrbitforgeError, match="ORBITFORGE_ENGINE=abacus ORBITFORGE_WORKERS=3: the engine is local or ray"
    ):
        artifacts.engine_of(CLIPS, said)


def test_a_poisoned_shard_is_failed_with_its_reason_and_the_others_are_made(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOY_FAIL", "views:000")
    with pytest.raises(OrbitforgeError, match=r"^1 shards of views failed: 000: views cannot make 000$"):
        world.make("views")
    assert world.calls() == ["views 000", "views 001", "views 000"]  # again, behind the others
    state = world.status()["views"]
    assert state.status == "failed"
    assert {shard.shard: (shard.status, shard.why) for shard in state.shards} == {
        "000": ("failed", ["failed: views cannot make 000"]),
        "001": ("fresh", []),
    }
