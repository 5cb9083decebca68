"""One line where memory ends and Python cannot raise: libraries that abort, the system's OOM killer."""

from __future__ import annotations

import atexit
import logging
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestration.errors import ENOUGH_MEMORY, OrbitforgeError, in_plain_words

_GONE = f"error: orbitforge was killed, or crashed; most often there is not enough memory: {ENOUGH_MEMORY}"
_LISTEN = 'trap "" INT TERM HUP; read -r goodbye || echo "$1" >&2'
_FLOORS = (
    (resource.RLIMIT_AS, 1_250_000_000, "address space (`ulimit -v`)"),
    (resource.RLIMIT_DATA, 200_000_000, "data (`ulimit -d`)"),
)
"""What `orbitforge status` takes, about: with less polars and dagster end in ways that name no memory."""


def promise_last_words() -> Callable[[], None]:
    """Have a shell say what most often was the matter if this process ends without goodbye, as by SIGKILL; let threads
    be silent about memory, and exit handlers about all that this machine lacks, since the command itself says it.

    Returns what says goodbye, which exit does by itself and `os._exit` does not.
    """
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # of a rollback without memory, a screenful
    threading.excepthook = _but_for(lambda error: isinstance(error, MemoryError), threading.excepthook)
    sys.unraisablehook = _but_for(in_plain_words, sys.unraisablehook)
    command = ["/bin/sh", "-c", _LISTEN, "last-words", _GONE]
    try:
        listener = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError:  # no shell, no words
        return lambda: None

    def say_goodbye() -> None:
        with suppress(OSError, MemoryError):
            listener.communicate(b"goodbye\n")

    atexit.register(say_goodbye)
    return say_goodbye


def _but_for(told_already: Callable[[BaseException], object], hook: Any) -> Any:
    return lambda told: None if told_already(told.exc_value or told.exc_type()) else hook(told)


def refuse_too_little() -> None:
    """Raise OrbitforgeError where a limit leaves no room for the libraries alone."""
    for kind, least, name in _FLOORS:
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY and soft < least:
            raise OrbitforgeError(
                f"this process may take {soft / 1e9:.2f} GB of {name}, and the libraries of orbitforge alone take "
                f"{least / 1e9:.2f} GB; raise the limit, or remove it"
            )
