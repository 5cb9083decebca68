"""Locks that a killed process cannot keep: the kernel drops them with the process.

They are `flock`s. On NFS Linux turns these into locks of the server, which hold between machines where the folder is
mounted without `local_lock` and go with a machine that dies after the server's lease (NFS 4: 90 s). Nobody waits for
ever: a process that is stopped, or hangs, keeps its lock.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from orchestration.errors import OrbitforgeError, plain_errors

SECONDS, HOURS = "ORBITFORGE_LOCK_SECONDS", "ORBITFORGE_WAIT_HOURS"
"""How long one waits for what takes moments (the ledger, `data.dvc`, MLflow's registry; 600), and for another process
that makes the same (48)."""
REMINDED = 600.0
"""Seconds after which one that still waits says so again."""


@contextmanager
def locked(
    path: Path, *, note: str | None = None, waiting: Callable[[str], None] | None = None, shared: bool = False
) -> Iterator[None]:
    """Hold the lock file `path`; waits while another process does, after telling `waiting` what its note says: which
    process of which machine, or `note`.

    Raises OrbitforgeError, naming who holds it, after ORBITFORGE_LOCK_SECONDS; who has a way to tell that he waits,
    waits for work to be done, and for ORBITFORGE_WAIT_HOURS. Any number may hold it `shared`, and then nobody alone.
    """
    patience = _number(HOURS, 48) * 3600 if waiting else _number(SECONDS, 600)
    descriptor = _acquire(path, waiting, patience, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        words = (this_process() if note is None else note).encode()
        os.pwrite(descriptor, words, 0)
        os.truncate(descriptor, len(words))  # emptied first, ext4 would write it to the disk when it is closed
        yield
    finally:
        os.close(descriptor)


def this_process() -> str:
    return f"pid {os.getpid()} on {platform.node()}"


def holder(path: Path, *, shared: bool = False) -> str | None:
    """The note of the process that holds the lock, None when it is free; `shared` locks count if one asks for them."""
    try:
        descriptor = os.open(path, os.O_RDWR if shared else os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.read(descriptor, 4096).decode()
    finally:
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[str], None] | None, patience: float, kind: int) -> int:
    began = time.monotonic()
    while True:
        with plain_errors(f"locking {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _wait(path, descriptor, waiting, began, patience, kind)
            except BaseException:
                os.close(descriptor)
                raise
        # the folder may have been removed while we waited: then this lock guards nothing
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def _wait(
    path: Path, descriptor: int, waiting: Callable[[str], None] | None, began: float, patience: float, kind: int
) -> None:
    """Try until it is ours: the kernel's own waiting has no end that one could set."""
    pause, told = 0.01, -REMINDED
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waited, who = time.monotonic() - began, os.pread(descriptor, 4096, 0).decode(errors="replace")
        if waited >= patience:
            raise OrbitforgeError(
                f"{path} is held by {who or 'a process that did not say its name'}{_state(who)} for {waited:.0f} s "
                f"and more; end that process, or let it finish and run again ({SECONDS} and {HOURS} say how long to "
                "wait)"
            )
        # who only looks whether it is free holds it for a moment
        if waiting and waited > 0.05 and waited - told >= REMINDED:
            told = waited
            waiting(f"{who}{_state(who)}")
        time.sleep(min(pause, max(0.0, patience - waited)))
        pause = min(1.5 * pause, 0.5)


def _state(who: str) -> str:
    """ " (stopped)" where the process of a note is one of this machine that does nothing until it is continued."""
    found = re.search(r"pid (\d+) on (\S+)", who)
    if not found or found[2] != platform.node():
        return ""
    try:
        stopped = psutil.Process(int(found[1])).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return ""
    return f" (stopped: `kill -CONT {found[1]}` lets it go on)" if stopped else ""


def _number(name: str, default: float) -> float:
    said = os.environ.get(name)
    try:
        number = float(said) if said else default
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise OrbitforgeError(f"{name}={said}: should be a number from 0")
    return number
