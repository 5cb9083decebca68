"""Being ended from outside: what was begun is left in order, and no signal is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 5.0
"""Seconds after which a signal is sent again that has not ended what it should end."""


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM, by which systems end what they started, does what Ctrl-C does: what is begun is left in order."""
    if not _in_main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def insisting() -> Iterator[None]:
    """Send SIGINT or SIGTERM to this process again, and again, until the block is left.

    What its handler raises is lost where the main thread is in a callback of C (llvmlite's, SQLite's): Python prints
    "Exception ignored" there and goes on.
    """
    if not _in_main_thread():
        yield
        return
    here, there = os.pipe()
    os.set_blocking(there, False)
    left = threading.Event()

    def insist() -> None:
        while number := os.read(here, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not left.wait(AGAIN):
                os.kill(os.getpid(), number[0])
        os.close(here)

    before = signal.set_wakeup_fd(there, warn_on_full_buffer=False)
    threading.Thread(target=insist, daemon=True).start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(there)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
