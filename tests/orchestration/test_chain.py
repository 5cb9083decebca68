"""The chain over toy stages: what runs, in which order, and what a failure holds back."""

import io
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from orchestration import artifacts, jobs, progress
from orchestration.chain import Part, StepError, groups, plan, run_chain
from orchestration.cli import progress as bars_module
from orchestration.cli.progress import Bars
from orchestration.cli.status import status_text
from orchestration.errors import StoppedError
from orchestration.lineage.staleness import AssetStatus, status
from orchestration.pipeline import Pipeline
from orchestration.workspace import remove
from tests.orchestration.world import World, definitions
from tests.waiting import until

GROUPS = {"views": "rendering", "manifest": "rendering", "model": "video", "clips": "video"}


@pytest.fixture
def toy(world: World) -> World:
    """The toy world with two groups, as the real pipeline has: no group has two sets of partitions."""
    steps = tuple(replace(step, group=GROUPS[step.name]) for step in world.pipeline.steps)
    world.pipeline = Pipeline(world.pipeline.preset, steps)
    return world


def planned(toy: World, **choice) -> list[Part]:
    return plan(toy.pipeline, status(toy.pipeline), **choice)


WHOLE = [Part("rendering", ("views", "manifest"), ("000", "001")), Part("video", ("model", "clips"), ("000", "001"))]


def test_groups_come_after_what_they_read(toy):
    assert groups(toy.pipeline) == ["rendering", "video"]


def test_an_empty_world_wants_everything(toy):
    assert planned(toy) == WHOLE


def test_selection_and_staleness_narrow_the_plan(toy):
    assert planned(toy, only_stale=True) == []
    assert planned(toy, select=frozenset({"views"})) == [Part("rendering", ("views",), ("000", "001"))]


def test_stale_takes_in_what_was_made_and_is_gone(toy):
    run_chain(definitions(toy.pipeline), toy.instance, toy.pipeline)
    remove(toy.data / "toy" / "clips" / "001")
    assert planned(toy, only_stale=True) == [Part("video", ("clips",), ("001",))]


def test_what_reads_a_shard_that_stale_leaves_alone_waits(toy):
    run_chain(definitions(toy.pipeline), toy.instance, toy.pipeline)
    toy.objects({"ape": "000", "bee": "000", "cow": "001", "dog": "002"})
    assert planned(toy, only_stale=True) == []


def test_a_limit_holds_back_what_reads_the_rest(toy):
    assert planned(toy, limit=1) == [Part("rendering", ("views",), ("000",))]


def test_the_chain_runs_once_and_then_finds_nothing(toy):
    code = definitions(toy.pipeline)
    seen = []
    assert run_chain(code, toy.instance, toy.pipeline, announce=lambda part, _: seen.append(part)) == WHOLE == seen
    assert set(toy.states().values()) == {"fresh"}
    assert planned(toy) == []
    assert run_chain(code, toy.instance, toy.pipeline) == []
    assert toy.instance.get_materialized_partitions(dg.AssetKey("clips")) == {"000", "001"}
    assert {run.tags["dagster/max_retries"] for run in toy.instance.get_runs()} == {"0"}


def test_one_new_object_reaches_only_what_it_changes(toy):
    code = definitions(toy.pipeline)
    run_chain(code, toy.instance, toy.pipeline)
    toy.calls()
    toy.objects({"ape": "000", "bee": "000", "cow": "001", "dog": "002"})
    run_chain(code, toy.instance, toy.pipeline)
    assert toy.calls() == ["views 002", "manifest None", "model None", "clips 000", "clips 001"]
    assert toy.instance.get_materialized_partitions(dg.AssetKey("views")) == {"000", "001", "002"}


def test_an_equal_result_stops_the_chain(toy):
    """The views are made anew and come out the same: nothing behind them runs."""
    code = definitions(toy.pipeline)
    run_chain(code, toy.instance, toy.pipeline)
    toy.calls()
    toy.edit("toy.stage", "mesh.decode()", "mesh.decode('utf-8')")
    run_chain(code, toy.instance, toy.pipeline)
    assert toy.calls() == ["views 000", "views 001"]


def test_a_failing_stage_stops_the_chain_and_is_named(toy, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "views:001")
    with pytest.raises(StepError, match=r"^views.*cannot make 001") as failure:
        run_chain(definitions(toy.pipeline), toy.instance, toy.pipeline)
    assert "\n" not in str(failure.value)
    assert not failure.value.trace  # a ValueError is about the input
    assert toy.calls() == ["views 000", "views 001", "views 001"]  # tried once more
    monkeypatch.delenv("TOY_FAIL")
    run_chain(definitions(toy.pipeline), toy.instance, toy.pipeline)
    assert toy.calls()[0] == "views 001"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_chain_that_is_stopped_says_so_and_goes_on(toy, monkeypatch, number):
    code = definitions(toy.pipeline)
    with monkeypatch.context() as once:
        once.setattr(artifacts, "LISTENERS", [lambda *_: os.kill(os.getpid(), number)])
        with pytest.raises(StoppedError, match=r"^views was stopped"):
            run_chain(code, toy.instance, toy.pipeline)
    made = toy.calls()
    run_chain(code, toy.instance, toy.pipeline)
    assert sorted({*made, *toy.calls()}) == ["clips 000", "clips 001", "manifest None", "model None", *VIEWS]


VIEWS = ["views 000", "views 001"]


def test_a_blocking_check_holds_back_later_runs_too(toy, monkeypatch):
    @dg.asset_check(asset="manifest", blocking=True)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="two rows are missing")

    code = definitions(toy.pipeline, sound)
    monkeypatch.setenv("TOY_FAIL", "views:001")
    with pytest.raises(StepError, match="views"):  # the check stays planned
        run_chain(code, toy.instance, toy.pipeline)
    monkeypatch.delenv("TOY_FAIL")
    with pytest.raises(StepError, match="sound"):
        run_chain(code, toy.instance, toy.pipeline)
    assert "model None" not in toy.calls()
    with pytest.raises(StepError, match="manifest: two rows are missing"):
        run_chain(code, toy.instance, toy.pipeline)
    assert "model None" not in toy.calls()


def test_the_job_of_the_chain_puts_right_what_a_killed_run_left(toy, monkeypatch):
    monkeypatch.setattr(jobs, "run_chain", lambda *_, **__: [])
    monkeypatch.setattr(jobs.pipeline, "current", lambda: toy.pipeline)
    stray = toy.data / "toy/stray.tar"
    stray.parent.mkdir(parents=True)
    stray.touch()
    assert jobs.chain.execute_in_process(instance=toy.instance).success
    assert not stray.exists()
    assert (toy.root / ".work/unclaimed/toy/stray.tar").is_file()


def test_a_long_step_is_watched_from_everywhere(toy: World, monkeypatch: pytest.MonkeyPatch):
    """A stage that reports nothing for many beats: lines where no terminal is, Dagster's log, status and heartbeat."""
    for module in (progress, bars_module):
        monkeypatch.setattr(module, "BEAT", 0.2)
    monkeypatch.setattr(progress, "QUIET", 0.6)
    monkeypatch.setenv("TOY_WAIT", "views")
    out, seen = io.StringIO(), list[AssetStatus]()

    def told() -> list[dict[str, Any]]:
        return [state.progress for state in seen if state.status == "running" and state.progress]

    def wait(shard: str, line: str, enough: Callable[[], bool]) -> None:
        def seen_enough() -> bool:
            seen.append(toy.status()["views"])
            return bool(enough() and re.search(line, out.getvalue(), re.MULTILINE))

        until(seen_enough, 50, pause=0)
        (toy.root / f"go-{shard}").touch()

    def watch() -> None:
        silent = r"^views: 0 of 2 shards, no report for \d+ s"
        wait("000", silent, lambda: any(each["quiet"] > 0.6 and each["age"] < each["quiet"] for each in told()))
        wait("001", r"^views: 1 of 2 shards, [\d.e-]+ steps/s, .* left", lambda: any(each["rate"] for each in told()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with Bars(Console(file=out, width=200)) as bars:
        monkeypatch.setattr(artifacts, "LISTENERS", [bars.hear])
        run_chain(definitions(toy.pipeline), toy.instance, toy.pipeline, select=frozenset({"views"}))
    watcher.join()
    assert re.search(r"^views: 0 of 2 shards, no report for \d+ s", out.getvalue(), re.MULTILINE)
    assert re.search(r"^views: 1 of 2 shards, [\d.e-]+ steps/s, .* left", out.getvalue(), re.MULTILINE)
    (run,) = toy.instance.get_runs()
    log = [record.event_log_entry.user_message for record in toy.instance.get_records_for_run(run.run_id).records]
    assert any(re.search(r"^views: 1 of 2 shards, .* left", line) for line in log)
    assert len({each["tick"] for each in told()}) > 3  # the heart beats on while the stage is silent
    assert any(each["quiet"] > 0.6 and each["age"] < each["quiet"] for each in told())
    shown = [status_text([state], "", why=False).plain for state in seen if state.progress]
    assert any(re.search(r"1 of 2 shards, .* left; pid \d+ on .*, heard \d+ s ago", text) for text in shown)
    assert toy.status()["views"].progress is None
