"""A model is a folder: config.json, model.safetensors, and whatever curve the training left beside them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Config = TypeVar("Config", bound=BaseModel)
Model = TypeVar("Model", bound=nn.Module)

WEIGHTS = "model.safetensors"


def save(model: nn.Module, config: BaseModel, folder: Path) -> None:
    """Write weights and config; equal weights give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
    save_file({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)


def read_config(folder: Path, config: type[Config]) -> Config:
    """Raises FileNotFoundError when the folder holds no model."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} holds no model")
    return config.model_validate_json(path.read_text())


def load(folder: Path, config: type[Config], build: Callable[[Config], Model]) -> Model:
    """The model of a folder, in evaluation mode. `build` makes it from its config.

    Raises FileNotFoundError when the folder holds no model, ValueError when weights and config do not fit.
    """
    settings = read_config(folder, config)
    refuse_other_sizes(settings, folder / WEIGHTS, build)
    model = build(settings)
    load_weights(model, load_file(folder / WEIGHTS), str(folder / WEIGHTS))
    return model.eval()


def refuse_other_sizes(settings: Config, file: Path, build: Callable[[Config], nn.Module]) -> None:
    """Raises ValueError when `file` does not hold the weights of such a model, before memory is taken for one."""
    with safe_open(file, "pt") as weights:
        shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    if (asked := most_layers(settings.model_dump())) > len(shapes):
        raise ValueError(f"{file} holds {len(shapes)} tensors, its config asks for {asked} layers")
    try:
        with torch.device("meta"):
            model = build(settings)
    except (RuntimeError, OverflowError, TypeError) as error:  # of sizes that no tensor has
        raise ValueError(f"{file}: no such model can be built: {' '.join(str(error).split())[:120]}") from None
    load_weights(model, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, str(file))


def most_layers(settings: Any) -> int:
    """The largest number of layers or blocks that settings ask for; each of them has weights."""
    found = [0]
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if isinstance(value, int) and any(word in name for word in ("layers", "blocks")):
            found.append(value)
        found.append(most_layers(value))
    return max(found)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put named weights into a model. Raises ValueError that lists what is missing, unknown or of another shape."""
    have = model.state_dict()
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(have[name].shape)}"
        for name in sorted(have.keys() & weights.keys())
        if have[name].shape != weights[name].shape
    ]
    problems = {
        "missing": sorted(have.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - have.keys()),
        "shape": shapes,
    }
    text = "; ".join(f"{kind}: {', '.join(names[:5])} ({len(names)})" for kind, names in problems.items() if names)
    if text:
        raise ValueError(f"{source} does not fit its config: {text}")
    model.load_state_dict(dict(weights))


def load_published(source: Path | str | Mapping[str, Tensor], kind: str = "vfusion3d", **overrides: Any) -> Any:
    """The `LRM` of a published checkpoint; see `models.published.load_published`, which is imported by its name alone:
    what only keeps its weights with this module does not become stale with the code of the LRM.
    """
    return importlib.import_module("models.published").load_published(source, kind, **overrides)


def parameter_count(build: Callable[[], nn.Module]) -> int:
    """Parameters of a model of any size, without its memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())
