from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from orchestration.resources.runs import free_dead_runs, run_tags

CONFIG = """
concurrency:
  pools:
    default_limit: 1
    granularity: op
telemetry:
  enabled: false
"""

CHILD = """
import time
import dagster as dg
from orchestration.resources.runs import run_tags

@dg.asset(pool="device")
def training() -> None:
    print("training", flush=True)
    time.sleep(600)

with dg.DagsterInstance.get() as instance:
    dg.materialize([training], instance=instance, tags=run_tags())
"""


def test_a_run_that_was_killed_frees_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dagster.yaml").write_text(CONFIG)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    assert child.stdout.readline() == b"training\n"
    with dg.DagsterInstance.get() as instance:
        assert free_dead_runs(instance) == []  # alive
        child.kill()
        child.wait()
        storage = instance.event_log_storage
        assert storage.get_concurrency_info("device").active_slot_count == 1
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED
        other = instance.create_run_for_job(_job(), tags={**run_tags(), "orbitforge/host": "elsewhere"})
        instance.report_run_failed(other)
        assert free_dead_runs(instance) == [run.run_id]
        assert free_dead_runs(instance) == []
        assert storage.get_concurrency_info("device").active_slot_count == 0
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status == dg.DagsterRunStatus.FAILURE

        @dg.asset(pool="device")
        def training() -> None:
            pass

        assert dg.materialize([training], instance=instance, tags=run_tags()).success  # does not wait


def test_a_run_that_was_killed_before_its_first_event_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dagster.yaml").write_text(CONFIG)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(_job(), tags=run_tags(child.pid))
        assert free_dead_runs(instance) == []
        child.kill()
        child.wait()
        assert free_dead_runs(instance) == [run.run_id]
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status == dg.DagsterRunStatus.FAILURE


def _job() -> dg.JobDefinition:
    @dg.job
    def nothing() -> None:
        pass

    return nothing


ELSEWHERE = """
import platform, sys, time
platform.node = lambda: "another-machine"
from orchestration.resources.runs import run_tags
import json
print(json.dumps(run_tags()), flush=True)
time.sleep(600)
"""


def test_a_run_of_another_machine_is_dead_when_its_lock_is_free(project: Path):
    child = subprocess.Popen([sys.executable, "-c", ELSEWHERE], stdout=subprocess.PIPE)
    assert child.stdout is not None
    tags = json.loads(child.stdout.readline())
    assert tags["orbitforge/host"] == "another-machine"
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(_job(), tags=tags, status=dg.DagsterRunStatus.STARTED)
        unknown = {**tags, "orbitforge/pid": "1"}  # no lock of it was ever seen
        instance.create_run_for_job(_job(), tags=unknown, status=dg.DagsterRunStatus.STARTED)
        assert free_dead_runs(instance) == []
        child.kill()
        child.wait()
        assert free_dead_runs(instance) == [run.run_id]
        assert free_dead_runs(instance) == []
