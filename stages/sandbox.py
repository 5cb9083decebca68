"""Calls that may hang, allocate without bound or crash, kept in a child process: a result comes back, or a reason.

The child is started once, serves one call after another, and is replaced when it had to be killed. It is a process of
its own rather than a fork or one of multiprocessing's: torch and polars do not survive a fork, and the workers that
make shards are daemons, which may have no such children. It ends with its parent, however that ends.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import math
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any, Generic, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

START_SECONDS = 120
STOPPED = ("too slow", "too much memory", "crashed")
"""How a SandboxError begins."""
CHILD = 1e9
"""Bytes that the child takes before the first call, at most."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


@dataclass(frozen=True)
class Limits:
    """Of one call. They change no bytes of what stays within them."""

    seconds: float = 60.0
    """of CPU"""
    wall: float = 300.0
    """seconds on the clock: more than of CPU, since machines are busy and disks are slow"""
    gigabytes: float = 4.0
    """of address space, above what the child takes before the first call"""


class SandboxError(RuntimeError):
    """A call that had to be stopped, or that took its process with it: `reason: error`."""


class Sandbox(Generic[Parameters, Result]):
    """A top-level `function`, called in the child. Use as a context manager.

    The call raises what the function raises, and SandboxError when it went over its limits or the child died. Where
    another machine may have had the memory, it raises OSError, ENOMEM, with the first path among the arguments: that
    says nothing of what was read, and no artifact is to hold it.
    """

    def __init__(self, function: Callable[Parameters, Result], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._name = f"{function.__module__}:{function.__qualname__}"
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Sandbox[Parameters, Result]:
        self._start()  # its imports go on while the caller does other things
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        pipe = self._pipe or self._start()
        try:
            pipe.send((args, kwargs))
            if not pipe.poll(START_SECONDS + self.limits.wall):
                raise SandboxError(self._stopped_for_time())
            while (answer := pipe.recv())[0] == "started":
                if not pipe.poll(self.limits.wall):
                    raise SandboxError(self._stopped_for_time())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._died(args) from None
        kind, value = answer
        if kind == "memory":
            self._stop()
            if self._starves():
                raise _no_memory(args)
            raise SandboxError(f"too much memory: needs more than {self.limits.gigabytes:g} GB")
        if kind == "raised":
            raise value
        return value

    def _start(self) -> Connection:
        here, there = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by _stop
        limits = (str(self.limits.seconds), str(self.limits.gigabytes))
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, self._name, str(there.fileno()), str(os.getpid()), *limits],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[there.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        )
        there.close()
        self._pipe = here  # pyright: ignore[reportAttributeAccessIssue]  # a PipeConnection on Windows only
        return here  # pyright: ignore[reportReturnType]

    def _stop(self) -> int:
        """End the child; its exit code."""
        code = 0
        if self._child:
            self._child.kill()
            code = self._child.wait()
        for each in (self._pipe, self._errors):
            if each:
                each.close()
        self._child = self._pipe = self._errors = None
        return code

    def _stopped_for_time(self) -> str:
        self._stop()
        return f"too slow: still waiting after {self.limits.wall:g} s"

    def _starves(self) -> bool:
        """Whether limits of the house leave the child less than its own: of address space it may raise that up to the
        hard one."""
        house = resource.getrlimit(resource.RLIMIT_AS)[1], resource.getrlimit(resource.RLIMIT_DATA)[0]
        least = min((limit for limit in house if limit != resource.RLIM_INFINITY), default=math.inf)
        return least < self.limits.gigabytes * 1e9 + CHILD

    def _died(self, args: Sequence[Any]) -> Exception:
        assert self._child
        assert self._errors
        code = self._child.wait()
        self._errors.seek(0)
        last = (self._errors.read().decode(errors="replace").strip().splitlines() or [""])[-1]
        self._stop()
        if code == -signal.SIGXCPU:
            return SandboxError(f"too slow: more than {self.limits.seconds:g} s of CPU time")
        if code == -signal.SIGKILL or self._starves():  # by the system: ours comes after that line
            return _no_memory(args)
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return SandboxError(f"crashed: the process was {how}{', ' if last else ''}{last}")


def _no_memory(args: Sequence[Any]) -> OSError:
    file = next((str(each) for each in args if isinstance(each, Path)), None)
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), file)


def _serve(name: str, handle: str, parent: str, seconds: str, gigabytes: str) -> None:
    """The child: calls from the pipe until the parent closes it."""
    die_with_parent()
    if os.getppid() != int(parent):  # it ended before that line
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    pipe = Connection(int(handle))
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # a lower limit of the house stands; macOS knows none
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + int(float(gigabytes) * 1e9), resource.RLIM_INFINITY))
    while True:
        try:
            args, kwargs = pipe.recv()
        except EOFError:
            return
        pipe.send(("started", None))
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + float(seconds))
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        try:
            answer = "done", function(*args, **kwargs)
        except MemoryError:
            answer = "memory", None
        except Exception as error:
            answer = "raised", portable(error)
        try:
            pipe.send(answer)
        except MemoryError:
            pipe.send(("memory", None))


def _address_space() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def die_with_parent() -> None:
    """No child outlives a parent that was killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def portable(error: Exception) -> Exception:
    """The error, or a plain one in its place with its words and notes, when it does not survive pickling."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        return plain


if __name__ == "__main__":
    _serve(*sys.argv[1:])
