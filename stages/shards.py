"""Shards of views: canonical WebDataset tars, so that equal content gives equal bytes."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from webdataset.compat import WebDataset

from models.camera import Camera

MOST = 1 << 27
"""Pixels of all views of a sample: 32 views of 2048 x 2048."""


@dataclass(frozen=True)
class Sample:
    """The views of one object or clip: un-premultiplied RGBA, and what is known about them.

    `meta["cameras"]` holds one list of 16 numbers a view (see `Camera.from_numbers`). `files` are written beside the
    views (extension -> content) and not read back here.
    """

    id: str
    views: UInt8[np.ndarray, "v h w 4"]
    meta: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def cameras(self) -> Camera:
        return Camera.from_numbers(torch.tensor(self.meta["cameras"], dtype=torch.float32))


class ShardWriter:
    """A shard written sample by sample: pictures are encoded as they come, so memory holds one sample at a time.

    Use as a context manager. Samples may come in any order; the tar holds them sorted by id, each as
    `<id>.<view>.png` and `<id>.json`, with zero times and owners. It appears at the end; an error leaves none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  # closed by __exit__
        self._members: dict[str, list[tuple[str, int, int]]] = {}

    def __enter__(self) -> ShardWriter:
        return self

    def add(self, sample: Sample) -> None:
        """Raises ValueError for an id that repeats, or holds a dot: WebDataset takes that for the extension."""
        if "." in sample.id or sample.id in self._members:
            raise ValueError(
                f"{self.path.name}: sample id {sample.id!r} repeats or holds a dot; make ids unique and plain"
            )
        contents = {f"{view:02d}.png": encode_png(pixels) for view, pixels in enumerate(sample.views)}
        contents |= {"json": json.dumps(sample.meta, sort_keys=True).encode(), **sample.files}
        self._members[sample.id] = [self._spooled(f"{sample.id}.{kind}", data) for kind, data in contents.items()]

    def _spooled(self, name: str, data: bytes) -> tuple[str, int, int]:
        start = self._spool.tell()
        self._spool.write(data)
        return name, start, len(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._spool:
            if kind is not None:
                return
            with tarfile.open(self.path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for id_ in sorted(self._members):
                    for name, start, size in self._members[id_]:
                        self._spool.seek(start)
                        info = tarfile.TarInfo(name)
                        info.size, info.mode = size, 0o444
                        tar.addfile(info, self._spool)


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples in one go, see `ShardWriter`."""
    with ShardWriter(path) as shard:
        for sample in samples:
            shard.add(sample)


def read_shard(path: Path) -> Iterator[Sample]:
    """Read the samples of a shard in order. Raises ValueError for a sample whose views and cameras do not match."""
    # a list of one absolute name: of any other WebDataset may take a part for a pattern, an address or a command
    for item in WebDataset([str(path.absolute())], shardshuffle=False, empty_check=False):
        meta = json.loads(item["json"])
        views = decode_views([item[key] for key in sorted(k for k in item if k.endswith(".png"))])
        if len(views) != len(meta["cameras"]):
            raise ValueError(f"{path}: {item['__key__']} has {len(views)} views but {len(meta['cameras'])} cameras")
        yield Sample(item["__key__"], views, meta)


def read_meta(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, meta) of the samples of a shard in order, without decoding a picture."""
    with tarfile.open(path) as tar:
        for member in tar:
            id_, _, kind = member.name.partition(".")
            if kind == "json" and (file := tar.extractfile(member)):
                yield id_, json.load(file)


def composite(views: UInt8[np.ndarray, "v h w 4"], background: float = 1.0) -> Float[np.ndarray, "v 3 h w"]:
    """Views on a plain background, RGB in 0..1."""
    if (views[..., 3] == 255).all():  # as generated clips are
        return np.ascontiguousarray(views[..., :3].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    rgba = views.astype(np.float32) / 255
    rgb = rgba[..., :3] * rgba[..., 3:] + background * (1 - rgba[..., 3:])
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2))


def encode_png(pixels: UInt8[np.ndarray, "h w c"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_views(pngs: Sequence[bytes]) -> UInt8[np.ndarray, "v h w c"]:
    """Raises ValueError, before it decodes any, when they have no one size or more pixels than `MOST` together."""
    sizes = [Image.open(io.BytesIO(data), formats=("PNG",)).size for data in pngs]
    if len(set(sizes)) != 1:
        raise ValueError(f"views of one size are wanted, there are {sorted(set(sizes))}")
    if (pixels := sum(width * height for width, height in sizes)) > MOST:
        raise ValueError(f"{len(pngs)} views of {sizes[0]} are {pixels} pixels, at most {MOST} are read")
    return np.stack([decode_png(data) for data in pngs])


def decode_png(data: bytes) -> UInt8[np.ndarray, "h w c"]:
    """Pixels as they are stored; silhouettes, which are grey with coverage, as RGBA."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    return np.asarray(image.convert("RGBA") if image.mode == "LA" else image)
