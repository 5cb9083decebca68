"""What tests share that start servers, processes and threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(found: Callable[[], T], seconds: float = 30.0, pause: float = 0.05) -> T:
    """What `found` returns once that is true, or at the latest after so many seconds: to be asserted."""
    end = time.monotonic() + seconds
    while not (value := found()) and (left := end - time.monotonic()) > 0:
        time.sleep(min(pause, left))
    return value


def free_port() -> int:
    """One of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
