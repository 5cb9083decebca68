"""Shards of views: canonical WebDataset tars, so that equal content gives equal bytes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from webdataset.compat import WebDataset

from models.camera import Camera


@dataclass(frozen=True)
class Sample:
    """The views of one object or clip: un-premultiplied RGBA, and what is known about them.

    `meta["cameras"]` holds one list of 16 numbers a view (see `Camera.from_numbers`).
    """

    id: str
    views: UInt8[np.ndarray, "v h w 4"]
    meta: dict[str, Any]

    @property
    def cameras(self) -> Camera:
        return Camera.from_numbers(torch.tensor(self.meta["cameras"], dtype=torch.float32))


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples sorted by id, each as `<id>.<view>.png` and `<id>.json`; times and owners are zero.

    Raises ValueError when an id repeats or holds a dot, which WebDataset takes for the start of the extension.
    """
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        previous = ""
        for sample in sorted(samples, key=lambda s: s.id):
            if "." in sample.id or sample.id == previous:
                raise ValueError(
                    f"{path.name}: sample id {sample.id!r} repeats or holds a dot; make ids unique and plain"
                )
            previous = sample.id
            for view, pixels in enumerate(sample.views):
                _add(tar, f"{sample.id}.{view:02d}.png", encode_png(pixels))
            _add(tar, f"{sample.id}.json", json.dumps(sample.meta, sort_keys=True).encode())


def read_shard(path: Path) -> Iterator[Sample]:
    """Read the samples of a shard in order. Raises ValueError for a sample whose views and cameras do not match."""
    for item in WebDataset(str(path), shardshuffle=False, empty_check=False):
        meta = json.loads(item["json"])
        views = np.stack([decode_png(item[key]) for key in sorted(k for k in item if k.endswith(".png"))])
        if len(views) != len(meta["cameras"]):
            raise ValueError(f"{path}: {item['__key__']} has {len(views)} views but {len(meta['cameras'])} cameras")
        yield Sample(item["__key__"], views, meta)


def composite(views: UInt8[np.ndarray, "v h w 4"], background: float = 1.0) -> Float[np.ndarray, "v 3 h w"]:
    """Views on a plain background, RGB in 0..1."""
    rgba = views.astype(np.float32) / 255
    rgb = rgba[..., :3] * rgba[..., 3:] + background * (1 - rgba[..., 3:])
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))


def encode_png(pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_png(data: bytes) -> UInt8[np.ndarray, "h w c"]:
    return np.asarray(Image.open(io.BytesIO(data)))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    tar.addfile(info, io.BytesIO(data))
