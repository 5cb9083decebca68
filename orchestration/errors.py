"""The one error type that a person reads."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_WAYS_OUT = {
    errno.ENOSPC: "no space left on the disk; free some and run again, finished work is kept",
    errno.EDQUOT: "the disk quota is used up; free some and run again, finished work is kept",
    errno.EROFS: "the file system is read-only; make it writable or set ORBITFORGE_ROOT to a place that is",
    errno.EACCES: "no permission; make the folder writable for this user",
    errno.EPERM: "no permission; make the folder writable for this user",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
}

_OF_RUST = re.compile(r"\(os error (\d+)\)")  # so say polars and safetensors


class OrbitforgeError(Exception):
    """Something a person can put right. The message is one line: the thing, its value, and the way out.

    The command line prints the message alone and exits with 1; a traceback is for our own mistakes.
    """


class MachineError(OrbitforgeError):
    """What this machine cannot do and another one may: its disk is full, or its code is not that of the run."""


def in_plain_words(error: Exception) -> str | None:
    """One line for what a disk can refuse, with the file it refused if it says; None for other errors."""
    number, file = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (told := _OF_RUST.search(str(error))):
        number = int(told[1])
    way_out = _WAYS_OUT.get(number or 0)
    return f"{file}: {way_out}" if way_out and file else way_out


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn what a disk can refuse (full, read-only, no permission) into a MachineError: "`doing`: ..."."""
    try:
        yield
    except OSError as error:
        words = in_plain_words(error)
        if words is None:
            raise
        raise MachineError(f"{doing}: {words}") from error
