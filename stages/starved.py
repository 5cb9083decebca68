"""Whether a call in a sandbox was stopped for what its input asked, or because memory of this machine ended."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

from stages.sandbox import Limits, SandboxError

_CHILD = 1e9
"""Bytes that the child takes before the first call, at most."""


def refuse_starved(error: SandboxError, limits: Limits, file: Path) -> None:
    """Raise OSError, ENOMEM with the file, where another machine may have read it: no artifact is to hold that.

    The sandbox sends SIGKILL only to what it then calls too slow; other SIGKILLs are those of the system. Where a limit
    of the house is lower than the sandbox's own, what ended for want of memory says nothing of the file.
    """
    killed = f"killed by signal {int(signal.SIGKILL)}" in str(error)
    wanted = str(error).startswith(("too much memory", "crashed"))
    if killed or (wanted and _house() < limits.gigabytes * 1e9 + _CHILD):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(file)) from error


def _house() -> float:
    """Bytes that a child may take here; of address space it may raise the limit up to the hard one."""
    limits = resource.getrlimit(resource.RLIMIT_AS)[1], resource.getrlimit(resource.RLIMIT_DATA)[0]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=float("inf"))
