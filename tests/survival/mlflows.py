"""An MLflow server that fails when it is told to."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.survival.toys import START
from tests.waiting import free_port, until

FINE, BROKEN, HTML, NONSENSE, LIST, STALLED = "fine", "broken", "html", "nonsense", "list", "stalled"
MOODS = (BROKEN, HTML, NONSENSE, LIST, STALLED)
_ANSWERS = {
    BROKEN: ("500 Internal Server Error", "text/plain", b"out of order"),
    HTML: ("200 OK", "text/html", b"<html><body>Please log in</body></html>"),
    NONSENSE: ("200 OK", "application/json", b'{"unheard": "of"}'),
    LIST: ("200 OK", "application/json", b"[1, 2, 3]"),
}


@dataclass(frozen=True)
class Server:
    uri: str
    mood: Path

    def be(self, mood: str) -> None:
        self.mood.write_text(mood)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """MLflow's own application, in a process of its own, with its data in `folder`."""
    folder.mkdir(parents=True)
    port = free_port()
    mood = folder / "mood"
    mood.write_text(FINE)
    process = START.Process(target=_serve, args=(folder, port), daemon=True)
    process.start()
    try:
        assert until(lambda: _is_up(port), 120), "MLflow did not come up in two minutes"
        yield Server(f"http://127.0.0.1:{port}", mood)
    finally:
        process.kill()
        process.join()


def _is_up(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
        return True
    return False


def _serve(folder: Path, port: int) -> None:
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    }
    silent = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(silent, stream)
    from mlflow.server import app
    from werkzeug.serving import run_simple

    mood = folder / "mood"

    def moody(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        now = mood.read_text()
        if now == STALLED:
            time.sleep(600)
        if now not in _ANSWERS:
            return app(environment, start)
        status, kind, body = _ANSWERS[now]
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    run_simple("127.0.0.1", port, moody, threaded=True)
