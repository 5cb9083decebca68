"""Any diffusers text-to-image pipeline in a folder: safetensors alone, no code of its own, nothing fetched."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from jaxtyping import Float

from models.layouts import PICKLES, weight_files
from stages.corpus.config import TextToImageUse
from stages.documents import read_json
from stages.errors import InputError
from stages.hashing import file_md5


class Painter:
    """Pictures of prompts. `version` is the hash of the pipeline's files."""

    def __init__(self, home: Path | None, config: TextToImageUse) -> None:
        """Raises InputError when the folder (`config.at`, else `home`) holds no pipeline that may be used."""
        self.folder = find_pipeline(home, config)
        self.version = folder_version(self.folder)
        if config.version not in (None, self.version):
            raise InputError(
                f"{self.folder} has version {self.version}, corpus.text.version says {config.version}; name the one "
                "that you mean"
            )
        self.config = config
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = load_pipeline(self.folder, self.device)
        self._takes = set(inspect.signature(self.pipeline.__call__).parameters)

    def paint(self, texts: list[str], seeds: list[int]) -> Iterator[Float[np.ndarray, "3 h w"] | str]:
        """RGB in 0..1 of each text, or why there is none. Texts of one call are drawn as one batch."""
        config = self.config
        told = [config.wording.replace("{text}", text) for text in texts]
        short = [number for number, text in enumerate(told) if self._too_long(text) is None]
        wanted: dict[str, Any] = {
            "prompt": [told[n] for n in short],
            "generator": [torch.Generator().manual_seed(seeds[n]) for n in short],
            "num_inference_steps": config.steps,
            "guidance_scale": config.guidance,
            "output_type": "np",
        }
        if "negative_prompt" in self._takes and config.guidance > 1:
            wanted["negative_prompt"] = [config.negative] * len(short)
        if config.size is not None:
            wanted |= {"height": config.size, "width": config.size}
        images: dict[int, Any] = {}
        if short:
            result = self.pipeline(**wanted)
            harmful = getattr(result, "nsfw_content_detected", None) or [False] * len(short)
            images = {
                n: "refused by the pipeline's safety checker" if bad else image.transpose(2, 0, 1)
                for n, image, bad in zip(short, result.images, harmful, strict=True)
            }
        for number, text in enumerate(told):
            yield images[number] if number in images else self._too_long(text) or ""

    def _too_long(self, text: str) -> str | None:
        """Pipelines cut what their text encoder does not take, and go on: here it is said."""
        tokenizer = getattr(self.pipeline, "tokenizer", None)
        if tokenizer is None:
            return None
        longest, tokens = tokenizer.model_max_length, len(tokenizer(text).input_ids)
        return f"too long: {tokens} tokens, the text encoder takes {longest}" if tokens > longest else None


def find_pipeline(home: Path | None, config: TextToImageUse) -> Path:
    """The folder of the pipeline. Raises InputError when there is none, or it asks for pickles or code of its own."""
    folder = home if config.at is None else Path(config.at).expanduser()
    index = folder / "model_index.json" if folder else None
    if folder is None or index is None or not index.is_file():
        where = "base_models has no text_to_image" if config.at is None else f"{index} is missing"
        raise InputError(
            f"{where}: drawing first frames from text needs a text-to-image pipeline; make it with `orbitforge base`, "
            "name a folder in corpus.text.at, or choose corpus.first_frame: render and prompts with objects"
        )
    try:
        name = read_json(index.read_bytes())["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{index} names no pipeline; is it whole?") from None
    if not isinstance(name, str) or not hasattr(diffusers, name):
        raise InputError(
            f"{index} names the pipeline {name!r}, which diffusers does not have; code of others is not run"
        )
    for pickle in sorted(path for pattern in PICKLES for path in folder.rglob(pattern)):
        try:
            weight_files(pickle.parent)
        except ValueError as error:
            raise InputError(str(error)) from None
    return folder


def folder_version(folder: Path) -> str:
    """A hash over the names and md5s of all files; those of a folder that did not change are read once a process."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "training.parquet")
    return _version(folder, tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=4)
def _version(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(f"{path.relative_to(folder).as_posix()} {file_md5(path)}\n".encode())
    return digest.hexdigest()[:32]


def load_pipeline(folder: Path, device: str) -> Any:
    """Raises InputError when the folder is no pipeline that diffusers can load."""
    kind = torch.float16 if device == "cuda" else torch.float32
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False, torch_dtype=kind
        )
    except Exception as error:  # diffusers and transformers raise many types on folders that are not whole
        raise InputError(f"{folder} is no pipeline that can be loaded: {' '.join(str(error).split())[:200]}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
