"""Locks that a killed process cannot keep: the kernel drops them with the process."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestration.errors import plain_errors


@contextmanager
def locked(path: Path, *, note: str | None = None, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path`; waits while another process does, after telling `waiting` what its note says: which
    process of which machine, or `note`."""
    descriptor = _acquire(path, waiting)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, (this_process() if note is None else note).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def this_process() -> str:
    return f"pid {os.getpid()} on {platform.node()}"


def holder(path: Path) -> str | None:
    """The note of the process that holds the lock, None when it is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.read(descriptor, 4096).decode()
    finally:
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[str], None] | None) -> int:
    while True:
        with plain_errors(f"locking {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting(os.pread(descriptor, 4096, 0).decode())
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # the folder may have been removed while we waited: then this lock guards nothing
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)
