"""`orbitforge label`: people judge clips in a page on loopback."""

from __future__ import annotations

import webbrowser

from rich.console import Console

from orchestration import paths, pipeline
from orchestration.cli.loopback import listen, serve
from orchestration.labelling.corpus import Corpus
from orchestration.labelling.server import Labelling
from orchestration.steps import SOURCES


def label_command(port: int, *, by: str | None, browser: bool) -> None:
    """Serve until Ctrl-C; then what is open is saved. Port 0 takes a free one."""
    console = Console(stderr=True)
    preset = pipeline.sources_only().preset.name
    source = next(source for source in SOURCES if source.name == "human_labels")
    corpus = Corpus(paths.data() / preset, preset)
    taken, url = listen(port)
    labels = paths.data() / (source.folder or source.name)
    labelling = Labelling(corpus, labels, paths.work() / "labelling", by=by)
    console.print(
        f"{len(corpus.candidates)} clips of {preset} can be judged: {url}", style="bold green", soft_wrap=True
    )
    if browser:
        webbrowser.open(url)
    try:
        serve(labelling.app(), taken)
    finally:
        labelling.close()
    console.print("labels are saved; `orbitforge run` trains the classifier on them and judges the corpus anew")
