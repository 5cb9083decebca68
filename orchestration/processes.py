"""Which process it was: its number alone comes again after a while."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """When a process of this machine began, None when there is none; a process that waits to be buried is none.

    In ticks since which boot, where the kernel says so: times of day move when somebody sets the clock.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        ticks = _ticks(pid)
        return f"{boot()[:8]}-{ticks}" if ticks and boot() else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def lives(pid: int, since: str | None) -> bool:
    """Whether the process `pid` of this machine is the one that was born then."""
    return since is not None and born(pid) == since


@cache
def boot() -> str:
    """Which start of the machine this is; "" where nobody says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _ticks(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]  # the 22nd field; the second one may hold anything
