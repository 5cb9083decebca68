"""Pages that this machine alone can reach."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from orchestration.errors import OrbitforgeError

LOOPBACK = "127.0.0.1"


def listen(port: int) -> tuple[socket.socket, str]:
    """A socket on loopback and its URL; port 0 takes a free one. Raises OrbitforgeError when the port is taken."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((LOOPBACK, port))
    except OSError as error:
        raise OrbitforgeError(
            f"port {port} is taken ({error.strerror}); stop what uses it or choose another with --port"
        ) from None
    return taken, f"http://{LOOPBACK}:{taken.getsockname()[1]}"


def serve(app: Starlette, taken: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    with suppress(KeyboardInterrupt):  # uvicorn has shut down and says how
        uvicorn.Server(config).run(sockets=[taken])
