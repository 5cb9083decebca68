"""A model from a path, whoever made it.

from stages.reconstruction.load import load
reconstruct = load("data/tiny/lrm_finetuned")
reconstruct("chair.png").write("chair.glb")
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.checkpoints import WEIGHTS, load_weights, read_config, refuse_other_sizes
from models.config import LRMConfig
from models.lrm import LRM
from models.published import Kind, load_published
from stages.documents import read_json
from stages.errors import InputError
from stages.hashing import file_md5
from stages.reconstruction.asset import Reconstructor
from stages.reconstruction.config import ExportConfig

KINDS: tuple[str, ...] = ("orbitforge", *get_args(Kind))
PUBLISHED: dict[str, dict[str, Any]] = {
    "vfusion3d": {"mesh": {"grid": 512, "threshold": 1.0}, "radius": 1.0, "elevation": 0.0},
    "openlrm": {"mesh": {"grid": 384, "threshold": 3.0}, "radius": 2.0, "elevation": 0.0},
}
"""Where a published model takes its picture to be seen from, and its surface to be."""
LARGEST = 8192
"""Pixels of a picture, texels of a plane, samples a ray."""
_SIZES = {512: "openlrm-small", 768: "openlrm-base", 1024: "openlrm-large"}


def load(
    path: Path | str,
    *,
    kind: str | None = None,
    device: str = "cpu",
    config: ExportConfig | None = None,
    **overrides: Any,
) -> Reconstructor:
    """The model at `path`: a folder with a model.safetensors, or a safetensors file.

    `kind` is orbitforge or one of the published models; None tells it from names and shapes. `config` says how assets
    are made (default: what suits the model); `overrides` are those of `models.published.load_published`. Raises
    InputError for what is missing, corrupt, pickled or of another kind, with the first wrong names and the shapes that
    belong there.
    """
    file = Path(path) / WEIGHTS if Path(path).is_dir() else Path(path)
    shapes = read_shapes(file)
    settings = _own_config(file.parent)
    kind = kind or ("orbitforge" if settings else guessed_kind(shapes))
    if kind not in KINDS:
        raise InputError(f"no kind of model {kind!r}; there are {', '.join(KINDS)}")
    if kind == "orbitforge" and settings is None:
        raise InputError(f"{file.parent / 'config.json'} is no config of an Orbitforge model; {file} needs one")
    try:
        if kind == "orbitforge" and settings is not None:
            refuse_other_sizes(settings, file, LRM.from_config)
            lrm = LRM.from_config(settings)
            load_weights(lrm, load_file(file), str(file))
        else:
            lrm = load_published(file, kind, **overrides)  # pyright: ignore[reportArgumentType]  # checked
    except (ValueError, SafetensorError) as error:
        raise InputError(" ".join(str(error).split())) from None
    bad = next((key for key, value in lrm.state_dict().items() if not value.isfinite().all()), None)
    if bad:
        raise InputError(f"{file}: {bad} holds numbers that are not finite; the training that wrote it had failed")
    if config is None:
        config = ExportConfig.model_validate(PUBLISHED.get(kind.partition("-")[0], {}))
    return Reconstructor(lrm.eval().to(found_device(device)), file_md5(file), kind, config)


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, from its header alone. Raises InputError for anything else."""
    if not file.is_file():
        raise InputError(f"{file} is no file; name a safetensors file or a folder with a {WEIGHTS}")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise InputError(
                f"{file} is a pickle, which may run any code; convert it to safetensors where you trust it"
            )
        try:
            (length,) = struct.unpack("<Q", start)
            if 8 + length > size:
                raise ValueError(f"its header says {length} bytes, the file has {size}")
            header: dict[str, Any] = read_json(stream.read(length))
            header.pop("__metadata__", None)
            ends = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if 8 + length + ends != size:
                raise ValueError(f"it should have {8 + length + ends} bytes and has {size}; was it copied whole?")
            return {name: tuple(entry["shape"]) for name, entry in header.items()}
        except (ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(f"{file} is no safetensors file that can be read: {error}") from None


def guessed_kind(shapes: dict[str, tuple[int, ...]]) -> str:
    """Which published model names and shapes look like; VFusion3D where they look like none, whose shapes the error
    then tells."""
    if any(name.startswith(("encoder.model.blocks.", "encoder.model.register_tokens")) for name in shapes):
        embedding = next((shapes[name] for name in ("pos_embed", "transformer.pos_embed") if name in shapes), ())
        return _SIZES.get(embedding[-1] if embedding else 0, "openlrm-base")
    return "vfusion3d"


def found_device(name: str) -> torch.device:
    """Raises InputError when torch does not have it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"no device {name!r} here: {first}; choose cpu, or install a torch that knows it") from None
    return device


def _own_config(folder: Path) -> LRMConfig | None:
    """The config beside the weights, if it is one of ours; published models have others of that name."""
    try:
        config = read_config(folder, LRMConfig)
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except ValidationError as error:
        if b'"plane_tokens"' not in (folder / "config.json").read_bytes():
            return None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / 'config.json'}: {where}: {first['msg']}; put it right") from None
    asked = {
        "image_size": config.encoder.image_size,
        "samples": config.samples + config.importance_samples,
        "plane_tokens x upsampling": config.plane_tokens * config.upsampling,
    }
    for name, value in asked.items():
        if value > LARGEST:  # no weight has this size, but memory is taken by it
            raise InputError(f"{folder / 'config.json'}: {name} is {value}, at most {LARGEST} are read")
    return config
