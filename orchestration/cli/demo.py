"""`orbitforge demo`: a page on loopback that turns pictures and sentences into meshes."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path

from rich.console import Console

from orchestration.cli.checkpoint import estimator, reconstructor, saliency_config
from orchestration.cli.loopback import listen, serve
from orchestration.cli.painting import painter
from orchestration.cli.progress import working
from orchestration.demo.maker import Maker
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import current_preset
from stages.errors import InputError


def demo_command(
    port: int, *, browser: bool, checkpoint: str | None, kind: str | None, device: str, saliency: Path | None
) -> None:
    """Serve until Ctrl-C. What was made is gone then: it is there to be downloaded."""
    try:
        from orchestration.demo.server import served
    except ImportError as error:
        raise OrbitforgeError(f"the page needs Gradio ({error}): pip install 'orbitforge[demo]'") from None
    preset = current_preset()
    taken, url = listen(port)
    changes = {"saliency": saliency_config(saliency)}
    console = Console(stderr=True)
    with working(console, "loading the model"):
        model = reconstructor(preset, checkpoint, kind=kind, device=device, changes=changes)
    try:
        with working(console, "loading the model that draws"):
            paint, lacking = painter(preset), None
    except (OrbitforgeError, InputError) as error:
        paint, lacking = None, str(error)
        console.print(f"pictures only: {lacking}", style="dim", markup=False, highlight=False, soft_wrap=True)
    try:
        height = estimator(preset)
    except (OrbitforgeError, InputError) as error:
        height = None
        console.print(
            f"elevations are not estimated: {error}", style="dim", markup=False, highlight=False, soft_wrap=True
        )
    with tempfile.TemporaryDirectory(prefix="orbitforge-demo-") as folder:
        app = served(Maker(model, Path(folder).resolve(), height=height, paint=paint, lacking=lacking))
        console.print(f"drop a picture of one object here: {url}", style="bold green", soft_wrap=True)
        if browser:
            webbrowser.open(url)
        serve(app, taken)
