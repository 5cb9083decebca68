"""`orbitforge generate`: a sentence in, a 3D asset out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from orchestration.cli.checkpoint import reconstructor, told_height
from orchestration.cli.painting import painter, worded
from orchestration.cli.progress import working
from orchestration.cli.reconstruct import refuse_suffix, save
from orchestration.presets.schema import current_preset
from stages.reconstruction.files import FORMATS


def generate_command(
    prompt: str,
    output: Path,
    *,
    seed: int,
    picture: Path | None,
    video: Path | None,
    elevation: str | None,
    checkpoint: str | None,
    kind: str | None,
    device: str,
    changes: dict[str, Any],
) -> None:
    """Draw a picture of the prompt and reconstruct it. Files are written when all is made, or not at all."""
    text = worded(prompt)
    refuse_suffix(output, FORMATS)
    if video:
        refuse_suffix(video, (".mp4",))
    if picture:
        refuse_suffix(picture, (".png",))
    preset = current_preset()
    paint = painter(preset)
    model = reconstructor(preset, checkpoint, kind=kind, device=device, changes=changes)
    height = told_height(preset, elevation)
    with working(Console(stderr=True), "drawing") as tell:
        drawn = paint(text, seed)
        tell({"message": "reconstructing"})
        made = model(drawn, height).told(prompt=text, seed=seed)
        tell({"message": "writing"})
        files = save(made, output, video, picture and (picture, drawn))
    for file in files:
        Console().print(str(file), highlight=False, soft_wrap=True)
