"""Shards done, rate and time left: their arithmetic, where they are shown, and what is left behind."""

from __future__ import annotations

import io
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from psutil import _pslinux  # pyright: ignore[reportAttributeAccessIssue]
from rich.console import Console

from orchestration import artifacts, progress
from orchestration.cli import progress as bars_module
from orchestration.cli.progress import Bars
from orchestration.cli.status import status_text
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.progress import Progress, running, words
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.runs import _is_dead, run_tags
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


def test_parts_of_a_step_have_a_pace_of_their_own(clock: list[float]):
    watch = Progress(MODEL, "toy")
    said = []
    for _ in watch.over(range(4), "planning"):
        clock[0] += 5
        said.append(watch.words())
    assert said[-1] == "planning, 75%, 0.15/s, 7 s left"  # the last is told when it is over
    watch.now("", 1)
    clock[0] += 2
    watch.hear(None, {"step": 10, "of": 100, "doing": "looking"})
    clock[0] += 2
    watch.hear(None, {"step": 20, "of": 100, "doing": "looking"})
    assert watch.words() == "looking, 20%, 5/s, 16 s left"
    watch.hear(None, {"step": 1, "of": 10})  # a training, which says no more
    clock[0] += 1
    watch.hear(None, {"step": 3, "of": 10, "loss": 0.1})
    assert watch.words() == "30%, 2 steps/s, 4 s left"
    watch.before = 200.0
    watch.hear(None, {"doing": "counting"})  # who knows how far
    assert watch.words() == "counting, 3 min left if it takes as long as the last time"
    watch.before = None
    watch.now("recording in data.dvc")
    assert watch.words() == "recording in data.dvc"
    clock[0] += 60
    assert watch.words() == "recording in data.dvc, no report for 60 s"


def test_the_heart_beats_while_nothing_is_reported(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "BEAT", 0.05)
    monkeypatch.setattr(progress, "QUIET", 0.15)
    told: list[str] = []
    with Progress(STEP, "toy", of=4, told=lambda watch: told.append(watch.words())) as watch:
        first = running("clips", "toy")
        time.sleep(0.5)  # as in one long call of a library
        last = running("clips", "toy")
    assert first is not None
    assert last is not None
    assert last["tick"] > first["tick"]
    assert last["age"] < last["quiet"]
    assert last["quiet"] >= 0.3
    assert (last["pid"], last["state"]) == (os.getpid(), "running")
    assert len(told) >= 3
    assert told[-1].startswith("0 of 4 shards, no report for ")
    assert running("clips", "toy") is None
    assert not watch._heart.is_alive()  # pyright: ignore[reportOptionalMemberAccess]


DIES = """
import os, sys
from orchestration.progress import Progress
from tests.orchestration.world import CLIPS
Progress(CLIPS, "toy", of=4, made=1).__enter__()
sys.stdout.close() if sys.argv[1:] else os.kill(os.getpid(), 9)
"""


def test_a_process_that_was_killed_is_told_as_gone_and_forgotten_by_the_next(world: World):
    killed = subprocess.run([sys.executable, "-c", DIES], cwd=Path(__file__).parents[2], timeout=60)
    assert killed.returncode == -9
    world.make("views", "manifest", "model")
    state = world.status()["clips"]
    assert state.status == "missing"  # not running
    assert state.progress is not None
    assert (state.progress["state"], state.as_json()["progress"]["done"]) == ("gone", 1)
    text = status_text([state], "", why=False).plain
    assert f"was killed: 1 of 4 shards; pid {state.progress['pid']} on {platform.node()}, heard" in text
    left = next((world.root / ".work" / "clips").glob("running-*"))
    told = left.read_text()
    world.make("clips")
    assert world.status()["clips"].progress is None
    assert not list((world.root / ".work" / "clips").glob("running-*"))
    left.write_text(told)  # killed after the last commit
    assert world.status()["clips"].progress is None


def test_clocks_that_are_set_confuse_nobody(world: World, monkeypatch: pytest.MonkeyPatch):
    tags, day, boot = run_tags(), 86400.0, psutil.boot_time()
    with Progress(STEP, "toy"):
        for jump in (-day, day):
            shifted = SimpleNamespace(time=lambda jump=jump: time.time() + jump, monotonic=time.monotonic)
            with monkeypatch.context() as later:
                later.setattr(progress, "time", shifted)
                # on Linux it moves with the clock, and with it psutil's time at which a process began
                later.setattr(_pslinux, "boot_time", lambda jump=jump: boot + jump)
                told = running("clips", "toy")
                assert told is not None
                assert (told["state"], told["age"] < 600) == ("running", True)
                assert not _is_dead(tags)  # its run in Dagster would be marked as failed


def test_another_machine_is_believed_as_long_as_it_is_heard_of(world: World, monkeypatch: pytest.MonkeyPatch):
    with Progress(STEP, "toy"), monkeypatch.context() as there:
        there.setattr(platform, "node", lambda: "elsewhere")
        there.setattr(progress, "_here", lambda: {"boot": "another"})
        assert running("clips", "toy")["state"] == "running"  # pyright: ignore[reportOptionalSubscript]
        now = time.time() + progress.QUIET + 1
        there.setattr(progress, "time", SimpleNamespace(time=lambda: now, monotonic=time.monotonic))
        told = running("clips", "toy")
        assert told is not None
        assert (told["state"], round(told["age"])) == ("gone", round(progress.QUIET + 1))


def test_status_shows_what_runs(world: World):
    world.make("views", "manifest", "model")
    task = plan(current := Current(world.pipeline), current.wanted(CLIPS, "000"), make_of("clips"))
    with Progress(CLIPS, "toy", of=2) as watch, task.scratch.held("toy pid 1 on here"):
        state = world.status()["clips"]
        assert state.status == "running"
        assert state.as_json()["progress"]["shards"] == 2
        text = status_text([state], "", why=False).plain
        assert re.search(rf"0 of 2 shards; pid {os.getpid()} on {platform.node()}, heard \d+ s ago", text)
        watch.now("planning")
        watch.write()
    with Progress(CLIPS, "toy", of=2):  # nothing is held while it plans, or records
        assert world.status()["clips"].status == "running"
    assert world.status()["clips"].status == "missing"


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
    console = Console(width=140, record=True, force_terminal=True)
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


def test_without_a_terminal_there_is_a_line_each_beat(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(bars_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    console = Console(file=io.StringIO(), width=80)
    told = {"shards": 10, "done": 3, "failed": 0, "share": 0.3, "rate": 3.4, "unit": "clips", "left": 300.0}
    with Bars(console) as bars:
        for second in range(35):
            now[0] = float(second)
            bars.hear("clips", "001", {"step": second, "of": 100, "loss": 0.5})
            bars.hear("clips", "001", {"progress": told})
        for second in range(35, 60):
            now[0] = float(second)
            bars.of("reconciling")({"step": second - 34, "of": 100})
        bars.hear("short", None, {"step": 1, "of": 1})
    lines = console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    assert lines == [
        *(f"clips: 3 of 10 shards, 3.4 clips/s, 5 min left, {seconds} s so far" for seconds in (10, 20, 30)),
        "reconciling: 11%, 81 s left, 10 s so far",
        "reconciling: 21%, 75 s left, 20 s so far",
    ]


def test_without_a_terminal_what_says_nothing_is_told_of_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bars_module, "BEAT", 0.1)
    console = Console(file=io.StringIO(), width=80)
    with Bars(console) as bars:
        time.sleep(0.25)  # nothing is known yet
        bars.of("chair.png")()
        time.sleep(0.35)  # as in one long call of a library
    lines = console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    assert lines
    assert set(lines) == {"chair.png: 0 s so far"}


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
