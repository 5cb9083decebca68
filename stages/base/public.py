"""Public weights as parts of the base weights: checked against the preset's shapes, safetensors alone.

TAKE[part](source, output, config) -> output/, as `base_models` holds that part
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from models.checkpoints import WEIGHTS, load_weights, save
from models.config import EncoderConfig
from models.encoder import Encoder
from models.layouts import PICKLES, read_part, weight_files
from models.svd import PARTS
from models.video import build_video, read_video_config
from stages.base.config import EncoderTrainingConfig, TextToImageTrainingConfig, VideoTrainingConfig
from stages.corpus.config import TextToImageUse
from stages.corpus.text_to_image import find_pipeline, load_pipeline
from stages.dinov2 import load_dinov2
from stages.documents import DocumentError, read_json, read_yaml
from stages.errors import InputError

STABLE_VIDEO = "StableVideoDiffusionPipeline"
BESIDE = (".json", ".txt", ".model", ".jinja")
"""Endings of what a layout holds beside its weights: settings and vocabularies."""


def take_video(source: Path, output: Path, config: VideoTrainingConfig) -> None:
    """A diffusers layout of Stable Video Diffusion, or a model folder of this project, of the shapes of `config.video`.

    No weight is held in memory. Raises InputError for other families, pickles, and shapes that are not the preset's.
    """
    wanted = config.video
    with torch.device("meta"):
        model = build_video(wanted)
    named = _read(source / "model_index.json").get("_class_name")
    if named is None and (source / WEIGHTS).is_file():
        own = _said(lambda: read_video_config(source))
        _same(f"{source / 'config.json'}", own.model_dump(), wanted.model_dump(), "base.video.video")
        _fits(model, source / WEIGHTS, [source / WEIGHTS])
        _copy([source / WEIGHTS, source / "config.json"], source, output)
        return
    if named != STABLE_VIDEO or wanted.family != "svd":
        raise InputError(
            f"{source} is {f'a {named}' if named else 'no model'}, the preset's base.video.video is of the family "
            f"{wanted.family}; it takes {f'a {STABLE_VIDEO}' if wanted.family == 'svd' else 'a folder of this project'}"
        )
    files = [source / "model_index.json"]
    for part, attribute in PARTS.items():
        weights = _said(lambda part=part: weight_files(source / part))
        _fits(getattr(model, attribute), source / part, weights)
        files += [*weights, *_settings(source / part)]
    for part in ("scheduler", "feature_extractor"):
        files += _settings(source / part)
    _copy(files, source, output)
    scaling = _read(source / "vae" / "config.json").get("scaling_factor", wanted.scaling)
    settings = wanted.model_copy(update={"scaling": scaling})
    (output / "config.json").write_text(json.dumps(settings.model_dump(mode="json"), indent=1) + "\n")


def take_encoder(source: Path, output: Path, config: EncoderTrainingConfig) -> None:
    """A DINOv2 of transformers, with registers or without, or an encoder of this project, as `config.encoder` says.

    Raises InputError for other networks, pickles, and shapes that are not the preset's.
    """
    wanted, its = config.encoder, _read(source / "config.json")
    if "table_size" in its:
        _same(f"{source / 'config.json'}", its, wanted.model_dump(), "base.encoder.encoder")
        encoder = Encoder(wanted)
        _said(lambda: read_part(encoder, source))
    else:
        _said(lambda: weight_files(source))
        encoder = _dinov2(source, wanted)
    save(encoder, encoder.config, output)


def _dinov2(source: Path, wanted: EncoderConfig) -> Encoder:
    model, registers = load_dinov2(source)
    shape = {
        "table_size": model.config.image_size,
        "patch": model.config.patch_size,
        "width": model.config.hidden_size,
        "layers": model.config.num_hidden_layers,
        "heads": model.config.num_attention_heads,
        "registers": registers,
    }
    asked = wanted.model_dump()
    _same(f"{source / 'config.json'}", shape, {name: asked[name] for name in shape}, "base.encoder.encoder")
    encoder = Encoder(wanted)
    unused = {"embeddings.mask_token"} if registers else set[str]()  # a training aid
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in unused}
    _said(lambda: load_weights(encoder.model, weights, str(source)))
    return encoder


def take_text_to_image(source: Path, output: Path, config: TextToImageTrainingConfig | None) -> None:
    """Any text-to-image pipeline of diffusers; its shapes are its own. Raises InputError when it cannot be loaded."""
    if not (source / "model_index.json").is_file():
        raise InputError(f"{source} holds no pipeline of diffusers: its model_index.json is missing")
    load_pipeline(find_pipeline(source, TextToImageUse.model_validate({})), "cpu")
    parts = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    files = [source / "model_index.json"]
    for part in parts:
        files += _settings(part)
        if any(part.glob("*.safetensors")):
            files += _said(lambda part=part: weight_files(part))
    _copy(files, source, output)


TAKE: dict[str, Callable[[Path, Path, Any], None]] = {
    "encoder": take_encoder,
    "video": take_video,
    "text_to_image": take_text_to_image,
}
"""Part of `base_models`, which is the key of its section in the preset's `base`, -> what takes it in."""


def take(part: str, source: Path, output: Path, config: Any) -> None:
    """`TAKE` by name, for a sandbox. Raises InputError, of links that lead out of `source` as well."""
    home = source.parent.parent if source.parent.name == "snapshots" else source  # of the hub's cache: links to blobs
    for file in sorted(source.rglob("*")):
        if file.is_symlink() and not file.resolve().is_relative_to(home.resolve()):
            raise InputError(f"{file} is a link out of {home}; put the file itself there")
    TAKE[part](source, output, config)


def card_licence(source: Path) -> str | None:
    """What the model card in `source`, a README.md with a YAML head as the hub has it, says; None when it does not."""
    card = source / "README.md"
    head = card.read_text(errors="replace").split("---") if card.is_file() else []
    if len(head) < 3 or head[0].strip():
        return None
    try:
        facts = read_yaml(head[1])
    except DocumentError:
        return None
    licence = facts.get("license") if isinstance(facts, dict) else None
    if licence == "other":
        licence = facts.get("license_name") or licence
    return licence if isinstance(licence, str) and licence else None


def _fits(part: nn.Module, folder: Path, files: list[Path]) -> None:
    """Names and shapes of what lies in `files`, by their headers."""
    have: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                have |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise InputError(f"{file} cannot be read as safetensors: {error}") from None
    have = {name: shape for name, shape in have.items() if not name.endswith("embeddings.position_ids")}
    wanted = {name: tuple(tensor.shape) for name, tensor in part.state_dict().items()}
    wrong = [name for name in sorted(have.keys() | wanted.keys()) if have.get(name) != wanted.get(name)]
    if wrong:
        name = wrong[0]
        raise InputError(
            f"{folder}: {name} is {_shape(have.get(name))} instead of {_shape(wanted.get(name))}, and {len(wrong) - 1} "
            "more; say in the preset's base section what these weights are, or choose others"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)


def _same(file: str, its: Mapping[str, Any], wanted: Mapping[str, Any], section: str) -> None:
    other = [f"{key} {its.get(key)} instead of {wanted[key]}" for key in wanted if its.get(key) != wanted[key]]
    if other:
        raise InputError(f"{file}: {', '.join(other)}; put these values into the preset's {section}, or choose others")


def _said(call: Callable[[], Any]) -> Any:
    """What models say of weights that do not fit is for the person who named them."""
    try:
        return call()
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from None
    except RecursionError:
        raise InputError("a config is nested too deep; is it one?") from None


def _settings(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*")) if file.suffix in BESIDE] if folder.is_dir() else []


def _copy(files: list[Path], source: Path, output: Path) -> None:
    for file in files:
        if any(file.match(pattern) for pattern in PICKLES):
            continue
        target = output / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)  # of the hub's cache, which holds links, what they lead to


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file.read_bytes()) if file.is_file() else {}
    except ValueError:
        raise InputError(f"{file} is no JSON; is it whole?") from None
    return found if isinstance(found, dict) else {}
