"""Runs that were killed: they never block the next one."""

from __future__ import annotations

import atexit
import os
import platform
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.locks import holder, locked
from orchestration.processes import born, lives

if TYPE_CHECKING:
    import dagster as dg

HOST, PID, BORN = "orbitforge/host", "orbitforge/pid", "orbitforge/born"
_MARKS: dict[str, Any] = {}
"""Lock files that this process holds until it ends."""


def run_tags(pid: int | None = None) -> dict[str, str]:
    """Tags that say which process a run lives in: give them to runs that this process executes itself.

    A process id is used again after a while; with the time at which the process began it is unique. Other machines see
    by a lock in the project's folder whether the process lives.
    """
    of = pid or os.getpid()
    tags = {HOST: platform.node(), PID: str(of), BORN: born(of) or ""}
    if pid is None:
        with suppress(OSError, OrbitforgeError):  # no project, or a disk that says so elsewhere
            _hold(_mark(tags))
    return tags


def free_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process is gone, here or on another machine, and free their pool slots. Returns their
    ids.

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
        with suppress(OSError, OrbitforgeError):
            _mark(run.tags).unlink(missing_ok=True)
    return [run.run_id for run in dead]


def _is_dead(tags: Mapping[str, str]) -> bool:
    if HOST not in tags or PID not in tags:
        return False
    if tags[HOST] != platform.node():
        mark = _mark(tags)
        return mark.is_file() and holder(mark) is None
    return not lives(int(tags[PID]), tags.get(BORN))


def _mark(tags: Mapping[str, str]) -> Path:
    return paths.work() / "processes" / f"{tags[HOST]}-{tags[PID]}-{tags.get(BORN)}"


def _hold(mark: Path) -> None:
    if str(mark) not in _MARKS:
        _MARKS[str(mark)] = lock = ExitStack()
        lock.enter_context(locked(mark))
        atexit.register(mark.unlink, missing_ok=True)
