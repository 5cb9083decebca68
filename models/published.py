"""Checkpoints of others: the published VFusion3D and OpenLRM weights, by name and by shape.

Names are data: VFusion3D stores its image encoder as transformers 4 does (or as transformers 5, once it was saved with
that), OpenLRM as the original DINOv2 code does, with query, key and value in one matrix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.config import LRMConfig
from models.lrm import LRM

Kind = Literal["vfusion3d", "openlrm-small", "openlrm-base", "openlrm-large"]

_OPENLRM = {"normalise": "none", "position_resize": "scale", "registers": 4}
_LARGE = {"camera_width": 1024, "width": 1024, "layers": 16, "heads": 16, "channels": 80}
PUBLISHED: dict[str, dict[str, Any]] = {
    "vfusion3d": {**_LARGE, "encoder": {"image_size": 512}, "samples": 64, "importance_samples": 64},
    "openlrm-small": {
        "encoder": {"image_size": 224, "width": 384, "heads": 6, **_OPENLRM},
        **{"camera_width": 1024, "width": 512, "layers": 12, "heads": 8, "channels": 32},
        **{"samples": 48, "importance_samples": 48},
    },
    "openlrm-base": {
        "encoder": {"image_size": 336, **_OPENLRM},
        **{"camera_width": 1024, "width": 768, "layers": 12, "heads": 12, "channels": 48},
        **{"samples": 48, "importance_samples": 48},
    },
    "openlrm-large": {
        "encoder": {"image_size": 448, **_OPENLRM},
        **{**_LARGE, "samples": 64, "importance_samples": 64},
    },
}
"""What a published model is; sizes that its weights show are read there."""

TRANSFORMERS_4 = (  # ours (the names of transformers 5), theirs
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
)
OPENLRM = (
    ("encoder.model.embeddings.cls_token", "encoder.model.cls_token"),
    ("encoder.model.embeddings.position_embeddings", "encoder.model.pos_embed"),
    ("encoder.model.embeddings.register_tokens", "encoder.model.register_tokens"),
    ("encoder.model.embeddings.patch_embeddings.projection.", "encoder.model.patch_embed.proj."),
    ("encoder.model.encoder.layer.", "encoder.model.blocks."),
    ("encoder.model.layernorm.", "encoder.model.norm."),
    (".attention.o_proj.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    ("transformer.pos_embed", "pos_embed"),
    ("transformer.deconv.", "upsampler."),
)
QKV = re.compile(r"(.*)\.attention\.([qkv])_proj\.(weight|bias)")


def config_of(kind: Kind, **overrides: Any) -> LRMConfig:
    """The configuration of a published model, with `overrides`; see `load_published`."""
    if kind not in PUBLISHED:
        raise ValueError(f"no published model {kind!r}; there are {', '.join(get_args(Kind))}")
    settings = {**PUBLISHED[kind], "encoder": dict(PUBLISHED[kind]["encoder"])}
    for name, value in overrides.items():
        if name == "samples_per_ray":
            settings |= {"samples": value // 2, "importance_samples": value - value // 2}
        elif name == "transformer_heads":
            settings["heads"] = value
        elif name in ("position_resize", "image_size", "normalise"):
            settings["encoder"][name] = value
        elif name.startswith("encoder_"):
            settings["encoder"][name.removeprefix("encoder_")] = value
        else:
            settings[name] = value
    return LRMConfig.model_validate(settings)


def load_published(source: Path | str | Mapping[str, Tensor], kind: Kind = "vfusion3d", **overrides: Any) -> LRM:
    """The model of a published checkpoint: a safetensors file, a folder with one, or named tensors; evaluation mode.

    Sizes are read off the tensors. What these cannot tell has the published value unless `overrides` say otherwise:
    transformer_heads, encoder_heads, samples_per_ray, position_resize, image_size, normalise, or any field of
    `LRMConfig`. Raises ValueError that names the source and the first wrong names with the shapes that belong there.
    """
    weights, where = (source, "the state dict") if isinstance(source, Mapping) else _read(Path(source))
    named = from_published(weights)
    try:
        sizes = _sizes({name: tuple(tensor.shape) for name, tensor in named.items()})
    except (KeyError, IndexError):  # too foreign to have sizes: held against the published ones
        sizes = {"encoder": {}}
    encoder = {f"encoder_{name}": value for name, value in sizes.pop("encoder").items()}
    config = config_of(kind, **(encoder | sizes | overrides))
    with torch.device("meta"):
        model = LRM.from_config(config)
    _compare(to_published(named, kind), to_published(model.state_dict(), kind), kind, where)
    model.load_state_dict(named, assign=True)
    return model.eval()


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names (of VFusion3D with either transformers, or of OpenLRM) to those of `LRM`; others stay."""
    named = {}
    for name, tensor in weights.items():
        for new, old in (*TRANSFORMERS_4, *OPENLRM):
            # the short names of OpenLRM begin a name; the others may stand anywhere
            name = re.sub(("" if old.startswith(".") else "^") + re.escape(old), new, name)
        if ".attn.qkv." in name and tensor.ndim and tensor.shape[0] % 3 == 0:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part
        else:
            named[name] = tensor
    return named


def to_published(weights: Mapping[str, Tensor], kind: Kind, transformers: int = 4) -> dict[str, Tensor]:
    """The names of `LRM` to the published ones; `transformers` says which naming of VFusion3D's encoder (4 or 5)."""
    if kind == "vfusion3d":
        pairs = TRANSFORMERS_4 if transformers < 5 else ()
        return {_renamed(name, pairs): tensor for name, tensor in weights.items()}
    named: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        match = QKV.fullmatch(name)
        parts = [weights.get(f"{match[1]}.attention.{letter}_proj.{match[3]}") for letter in "qkv"] if match else [None]
        if match is None or any(part is None for part in parts):
            named[_renamed(name, OPENLRM)] = tensor
        elif match[2] == "q":
            named[_renamed(f"{match[1]}.attn.qkv.{match[3]}", OPENLRM)] = torch.cat([p for p in parts if p is not None])
    return named


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return name


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The fields of `LRMConfig` that shapes tell. Raises KeyError or IndexError where a tensor is none of an LRM."""

    def layers(prefix: str) -> int:
        found = {int(m[1]) for name in shapes if (m := re.match(re.escape(prefix) + r"(\d+)\.", name))}
        return max(found) + 1 if found else 1

    projection = shapes["encoder.model.embeddings.patch_embeddings.projection.weight"]
    patch = projection[2]
    table = math.isqrt(shapes["encoder.model.embeddings.position_embeddings"][1] - 1)
    registers = shapes.get("encoder.model.embeddings.register_tokens")
    deconv = shapes["transformer.deconv.weight"]
    first = shapes["synthesizer.decoder.net.0.weight"]
    decoder = [int(name.split(".")[3]) for name in shapes if name.startswith("synthesizer.decoder.net.")]
    return {
        "encoder": {
            "width": projection[0],
            "patch": patch,
            "table_size": table * patch,
            "layers": layers("encoder.model.encoder.layer."),
            "registers": registers[1] if registers else 0,
        },
        "camera_width": shapes["camera_embedder.mlp.0.weight"][0],
        "width": deconv[0],
        "channels": deconv[1],
        "upsampling": deconv[2],
        "plane_tokens": math.isqrt(shapes["transformer.pos_embed"][1] // 3),
        "layers": layers("transformer.layers."),
        "decoder_width": first[0],
        "decoder_layers": max(decoder) // 2 + 1,
    }


def _compare(have: Mapping[str, Tensor], wanted: Mapping[str, Tensor], kind: Kind, where: str) -> None:
    problems = [
        f"{name} is missing, {tuple(tensor.shape)} belongs there"
        if name not in have
        else f"{name} has shape {tuple(have[name].shape)}, {tuple(tensor.shape)} belongs there"
        for name, tensor in wanted.items()
        if name not in have or have[name].shape != tensor.shape
    ]
    problems += [f"{name} {tuple(have[name].shape)} is unknown" for name in have if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{where} holds no {kind} checkpoint: {'; '.join(problems[:3])}{more}")


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file} is no file; name a safetensors file or a folder with a model.safetensors")
    with file.open("rb") as stream:
        start = stream.read(2)
    if start == b"PK" or start[:1] == b"\x80":
        raise ValueError(f"{file} is a pickle, which may run any code; convert it to safetensors where you trust it")
    try:
        return load_file(file), str(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}") from None
