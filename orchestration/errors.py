"""The one error type that a person reads."""

from __future__ import annotations

import errno
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


class OrbitforgeError(Exception):
    """Something a person can put right. The message is one line: the thing, its value, and the way out.

    The command line prints the message alone and exits with 1; a traceback is for our own mistakes.
    """


def in_plain_words(error: OSError) -> str | None:
    """One line for what a disk can refuse, with the file it refused; None for other errors."""
    way_out = _WAYS_OUT.get(error.errno or 0)
    return f"{error.filename or error.strerror}: {way_out}" if way_out else None


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn what a disk can refuse (full, read-only, no permission) into an OrbitforgeError: "`doing`: ..."."""
    try:
        yield
    except OSError as error:
        words = in_plain_words(error)
        if words is None:
            raise
        raise OrbitforgeError(f"{doing}: {words}") from error
