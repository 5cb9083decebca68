"""Runs that were killed: they never block the next one."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestration.processes import born, lives

if TYPE_CHECKING:
    import dagster as dg

HOST, PID, BORN = "orbitforge/host", "orbitforge/pid", "orbitforge/born"


def run_tags(pid: int | None = None) -> dict[str, str]:
    """Tags that say which process a run lives in: give them to runs that this process executes itself.

    A process id is used again after a while; with the time at which the process began it is unique.
    """
    pid = pid or os.getpid()
    return {HOST: platform.node(), PID: str(pid), BORN: born(pid) or ""}


def free_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is gone, and free their pool slots. Returns their ids.

    Dagster leaves such a run STARTED for ever, and its slot taken. Call it before a run is started. Runs that carry no
    `run_tags` (started from the Dagster UI before their first asset) are left alone.
    """
    import dagster as dg

    of = dg.DagsterRunStatus
    # one that was killed between its record and its first event has not started and never will
    in_progress = [of.NOT_STARTED, of.STARTING, of.STARTED, of.CANCELING]
    dead = [run for run in instance.get_runs(dg.RunsFilter(statuses=in_progress)) if _is_dead(run.tags)]
    for run in dead:
        instance.report_run_failed(run, f"process {run.tags[PID]} on {run.tags[HOST]} is gone: it was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _is_dead(tags: Mapping[str, str]) -> bool:
    if tags.get(HOST) != platform.node() or PID not in tags:
        return False
    return not lives(int(tags[PID]), tags.get(BORN))
