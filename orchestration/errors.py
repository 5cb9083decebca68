"""The one error type that a person reads."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

ENOUGH_MEMORY = (
    "use fewer workers (ORBITFORGE_WORKERS=1), a smaller preset or a machine with more memory, finished work is kept"
)
"""What to do where there is not."""
_WAYS_OUT = {
    errno.ENOSPC: "no space left on the disk; free some and run again, finished work is kept",
    errno.EDQUOT: "the disk quota is used up; free some and run again, finished work is kept",
    errno.EROFS: "the file system is read-only; make it writable or set ORBITFORGE_ROOT to a place that is",
    errno.EACCES: "no permission; make the folder writable for this user",
    errno.EPERM: "no permission; make the folder writable for this user",
    errno.EXDEV: "data/ and .work/ are on different file systems, or mounts; they have to be on one",
    errno.EFBIG: "a file may not grow that large here (`ulimit -f`, or the file system); raise the limit and run again",
    errno.ENOLCK: "the file system takes no locks; mount it with them (NFS: version 4), or use a local disk",
    errno.ENOMEM: f"there is not enough memory; {ENOUGH_MEMORY}",
    errno.EMFILE: "this process may open no more files (`ulimit -n`); raise the limit and run again",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
}

_NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")  # so say polars and safetensors, and Python in a text
_UNSURE = (
    "a file could not be written; most often the disk is full, or memory is: free some and run again, finished work is "
    "kept"
)
_UNLOADED = f"a library could not be loaded; most often there is not enough memory: {ENOUGH_MEMORY}"
_SILENT = f"code in C failed and did not say why; most often there is not enough memory: {ENOUGH_MEMORY}"
_NO_GPU_MEMORY = (
    "the GPU has not enough memory; end what else uses it, use fewer workers (ORBITFORGE_WORKERS=1), a smaller preset "
    "or a larger GPU, finished work is kept"
)
_RESTORE = (
    "move .dagster/storage or .mlflow/mlflow.db, whichever it is, aside and say `orbitforge restore`: a new one "
    "is told what the ledger knows"
)
_OF_LIBRARIES = {
    "database or disk is full": _WAYS_OUT[errno.ENOSPC],
    "disk I/O error": _UNSURE,
    "PytorchStreamWriter failed": _UNSURE,
    "unexpected pos": _UNSURE,
    "attempt to write a readonly database": _WAYS_OUT[errno.EROFS],
    "unable to open database file": (
        "the disk is full, takes no more files or is read-only; free some or make it writable and run again, finished "
        "work is kept"
    ),
    "can't allocate memory": _WAYS_OUT[errno.ENOMEM],
    "Cannot allocate memory": _WAYS_OUT[errno.ENOMEM],
    "cannot allocate memory": _WAYS_OUT[errno.ENOMEM],
    "can't start new thread": _WAYS_OUT[errno.ENOMEM],
    "could not spawn threads": _WAYS_OUT[errno.ENOMEM],
    "CUDA out of memory": _NO_GPU_MEMORY,
    "CUDA error: out of memory": _NO_GPU_MEMORY,
    "STATUS_ALLOC_FAILED": _NO_GPU_MEMORY,
    "bytes on device 'cuda:": _NO_GPU_MEMORY,
    "error return without exception set": _SILENT,
    "NULL without setting an exception": _SILENT,
    "failed to map segment from shared object": _UNLOADED,
    "cannot map zero-fill pages": _UNLOADED,
    "Could not find/load shared object file": _UNLOADED,
    "database is locked": "another process keeps a database locked; end it, or let it finish, and run again",
    "database disk image is malformed": f"a database is damaged; {_RESTORE}",
    "file is not a database": f"a database is damaged; {_RESTORE}",
    "already exists\n[SQL: \nCREATE TABLE": f"a database was begun and never finished; {_RESTORE}",
}
"""What SQLite, torch, cuBLAS, warp, polars, llvmlite, the loader and C code of Python say instead of a number."""


class OrbitforgeError(Exception):
    """Something a person can put right. The message is one line: the thing, its value, and the way out.

    The command line prints the message alone and exits with `exit_code`; a traceback is for our own mistakes.
    """

    exit_code = 1


class StoppedError(OrbitforgeError):
    """What was ended from outside, by Ctrl-C or SIGTERM, with all that it had begun left in order."""

    exit_code = 130


class MachineError(OrbitforgeError):
    """What this machine cannot do and another one may: its disk is full, or its code is not that of the run."""


def in_plain_words(error: BaseException) -> str | None:
    """One line for what a machine can refuse (disk, memory, locks), with the file it refused if it says; None for other
    errors."""
    number, file, text = getattr(error, "errno", None), getattr(error, "filename", None), str(error)
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif number is None and (told := _NUMBER.search(text)):
        number = int(told[1] or told[2])
    way_out = _WAYS_OUT.get(number or 0)
    if number is None:
        way_out = next((f"{said}: {words}" for said, words in _OF_LIBRARIES.items() if said in text), None)
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
