"""`orbitforge label`: people judge clips in a page on loopback."""

from __future__ import annotations

import socket
import webbrowser

import uvicorn
from rich.console import Console

from orchestration import paths, pipeline
from orchestration.errors import OrbitforgeError
from orchestration.labelling.corpus import Corpus
from orchestration.labelling.server import Labelling
from orchestration.steps import SOURCES

LOOPBACK = "127.0.0.1"


def label_command(port: int, *, by: str | None, browser: bool) -> None:
    """Serve until Ctrl-C; then what is open is saved. Port 0 takes a free one."""
    console = Console(stderr=True)
    preset = pipeline.sources_only().preset.name
    source = next(source for source in SOURCES if source.name == "human_labels")
    corpus = Corpus(paths.data() / preset, preset)
    taken = _listen(port)
    labels = paths.data() / (source.folder or source.name)
    labelling = Labelling(corpus, labels, paths.work() / "labelling", by=by)
    url = f"http://{LOOPBACK}:{taken.getsockname()[1]}"
    console.print(
        f"{len(corpus.candidates)} clips of {preset} can be judged: {url}", style="bold green", soft_wrap=True
    )
    if browser:
        webbrowser.open(url)
    config = uvicorn.Config(labelling.app(), log_level="warning", timeout_graceful_shutdown=3)
    try:
        uvicorn.Server(config).run(sockets=[taken])
    except KeyboardInterrupt:  # uvicorn has shut down and says how
        pass
    finally:
        labelling.close()
    console.print("labels are saved; `orbitforge run` trains the classifier on them and judges the corpus anew")


def _listen(port: int) -> socket.socket:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((LOOPBACK, port))
    except OSError as error:
        raise OrbitforgeError(
            f"port {port} is taken ({error.strerror}); stop what uses it or choose another with --port"
        ) from None
    return taken
