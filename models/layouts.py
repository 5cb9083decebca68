"""Folders in the layout of diffusers and transformers: one folder a part, safetensors beside a config.json."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoints import load_weights

PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl", "*.pickle")


def read_part(part: nn.Module, folder: Path) -> None:
    """Put the weights of `folder` into `part`, in the precision that `part` has.

    Raises ValueError for a folder without safetensors, naming the pickle that stands there instead, and for tensors
    that do not fit, naming the first of them with the shapes that belong there.
    """
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} cannot be read as safetensors: {error}") from None
    # some published encoders store this table of numbers, which is none of the weights
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith("embeddings.position_ids")}
    load_weights(part, {name: tensor.to(torch.get_default_dtype()) for name, tensor in weights.items()}, str(folder))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one part: the only one, the parts that an index lists, or the full-precision one.

    Raises ValueError when there is none, or no way to tell.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is missing; a whole layout of diffusers is needed: model_index.json names its parts"
        )
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file for pattern in PICKLES for file in folder.glob(pattern))
    if not files:
        what = f"{pickles[0]} is a pickle, which may run any code" if pickles else f"{folder} holds no *.safetensors"
        raise ValueError(f"{what}; fetch the safetensors of these weights, or convert them where you trust them")
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        try:
            named = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{indices[0]} is no index of weights; fetch it again") from None
        if elsewhere := [name for name in named if Path(name).name != name]:
            raise ValueError(f"{indices[0]} names {elsewhere[0]!r}; weights lie beside it, in no other folder")
        if gone := [name for name in named if not (folder / name).is_file()]:
            raise ValueError(f"{folder / gone[0]} is missing, but {indices[0].name} lists it; fetch it again")
        return [folder / name for name in named]
    full = [file for file in files if file.name.count(".") == 1]  # not the .fp16 variant beside it
    chosen = full or files
    if len(chosen) > 1:
        raise ValueError(f"{folder} holds {len(chosen)} safetensors and no index; keep one: {chosen[0].name}, ...")
    return chosen
