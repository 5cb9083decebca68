"""Runs that were killed: they never block the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg


def run_tags() -> dict[str, str]:
    """Tags that say which process a run lives in: give them to runs that this process executes itself."""
    raise NotImplementedError


def free_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose process on this machine is gone, and free their pool slots. Returns their ids.

    Call it before a run is started.
    """
    raise NotImplementedError
