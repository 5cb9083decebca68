"""`orbitforge generate`: one sentence in, a 3D asset out, by way of a picture."""

from __future__ import annotations

import tempfile
from pathlib import Path

from orchestration import paths, pipeline
from orchestration.cli.reconstruct import reconstruct_command
from orchestration.errors import OrbitforgeError


def generate_command(prompt: str, output: Path, video: Path | None, picture: Path | None, seed: int) -> None:
    """Draw the prompt with the preset's text-to-image model, reconstruct the picture; keep the picture if asked to."""
    import polars as pl

    from stages.prompts.screen import ScreenConfig, read_unsafe, screened

    kept, refused = screened(pl.DataFrame({"text": [prompt]}), ScreenConfig.model_validate({}), read_unsafe())
    for row in refused.to_dicts():
        raise OrbitforgeError(
            f"the prompt has {len(row['text'])} characters and is refused: {row['reason']}"
            f"{f' ({detail})' if (detail := row['detail']) else ''}; say what to make: 'a red chair'"
        )
    prompt = kept["text"][0]
    if picture and picture.suffix != ".png":
        raise OrbitforgeError(f"{picture} should end in .png; that is what is written")
    from PIL import Image

    from stages.corpus.first_frames import FirstFrames

    preset = pipeline.current().preset
    home = paths.data() / "base_models" / "text_to_image"
    frames = FirstFrames(paths.data(), home, preset.corpus, preset.rendering, preset.seed)
    (frame,) = frames.draw([{"id": prompt, "text": prompt, "object": None, "seed": seed}])
    if isinstance(frame, str):
        raise OrbitforgeError(f"{prompt!r}: {frame}; try another --seed, or other words")
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.png"
        Image.fromarray(frame.rgba[0]).save(drawn)
        if picture:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(drawn.read_bytes())
        reconstruct_command(drawn, output, video)
