"""`orbitforge reconstruct`: one image in, a 3D asset out."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from orchestration import paths, pipeline
from orchestration.errors import OrbitforgeError, plain_errors

MODEL = "lrm_finetuned"


def reconstruct_command(image: Path, output: Path, video: Path | None) -> None:
    """Write the asset, and the video if one is wanted, with the preset's fine-tuned model; both or neither."""
    here = pipeline.current()
    model = paths.data() / here.preset.name / MODEL
    if not (model / "config.json").is_file():
        raise OrbitforgeError(f"{model} holds no model yet; make it with `orbitforge run --preset {here.preset.name}`")
    if not image.is_file():
        raise OrbitforgeError(f"{image} is no file; name a picture of one object")
    _refuse_suffix(output, ".glb")
    if video:
        _refuse_suffix(video, ".mp4")

    from stages.reconstruction.export import reconstruct

    finished = [path for path in (output, video) if path]
    unfinished = [path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") for path in finished]
    try:
        with plain_errors(f"writing {output}"):
            for path in finished:
                path.parent.mkdir(parents=True, exist_ok=True)
            reconstruct(image, model, unfinished[0], here.preset.finetune.export, video=video and unfinished[1])
            for before, after in zip(unfinished, finished, strict=True):
                before.replace(after)
    finally:
        for path in unfinished:
            path.unlink(missing_ok=True)
    for path in finished:
        Console().print(str(path), highlight=False)


def _refuse_suffix(path: Path, wanted: str) -> None:
    if path.suffix != wanted:
        raise OrbitforgeError(f"{path} should end in {wanted}; that is what is written")
