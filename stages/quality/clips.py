"""Reads clips one by one, so that a broken clip is named and its neighbours are not lost."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from stages.shards import Sample, decode_png

ORIGIN = ("caption", "object", "creator", "licence", "split")
"""What a clip's metadata says about where it comes from; copied into every table about it."""

SYNTHETIC = "synthetic"
"""The split of generated clips; their prompts are of training objects."""


@dataclass(frozen=True)
class Broken:
    """A clip that cannot be read, and why."""

    id: str
    reason: str


def read_clips(path: Path) -> Iterator[Sample | Broken]:
    """The clips of a shard in order, broken ones as `Broken`.

    Raises ValueError when the tar itself is damaged: what it held is then unknown, so the shard must be made again.
    """
    try:
        with tarfile.open(path) as tar:
            for key, members in groupby(_members(tar), key=lambda member: member.name.split(".")[0]):
                files = {member.name[len(key) + 1 :]: _read(tar, member) for member in members}
                yield _clip(key, files)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no complete tar ({error}); delete the shard and make it again") from error


def count_clips(path: Path) -> int:
    """How many clips a shard holds, broken ones included, without reading one. Raises ValueError as `read_clips`."""
    try:
        with tarfile.open(path) as tar:
            return sum(1 for _ in groupby(_members(tar), key=lambda member: member.name.split(".")[0]))
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no complete tar ({error}); delete the shard and make it again") from error


def read_clip(path: Path, id_: str) -> Sample | Broken:
    """One clip of a shard, without decoding the others. Raises KeyError when the shard has none of that id."""
    try:
        with tarfile.open(path) as tar:
            members = [member for member in tar if member.name.split(".")[0] == id_]
            if not members:
                raise KeyError(f"{path} holds no clip {id_!r}")
            return _clip(id_, {member.name[len(id_) + 1 :]: _read(tar, member) for member in members})
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no complete tar ({error}); delete the shard and make it again") from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One by one; tarfile would keep all that it saw."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _clip(key: str, files: dict[str, bytes]) -> Sample | Broken:
    if "json" not in files:
        return Broken(key, "no metadata")
    try:
        meta = json.loads(files["json"])
        cameras = len(meta["cameras"])
    except (ValueError, KeyError, TypeError) as error:
        return Broken(key, f"unreadable metadata: {type(error).__name__}")
    names = sorted(name for name in files if name.endswith(".png"))
    if len(names) != cameras or cameras < 2:
        return Broken(key, f"{len(names)} views for {cameras} cameras")
    views = []
    for name in names:
        try:
            views.append(decode_png(files[name]))
        except Exception:  # pillow raises nearly any type on damaged files
            return Broken(key, f"view {name} is not a readable PNG")
    if len({view.shape for view in views}) > 1 or views[0].ndim != 3 or views[0].shape[-1] != 4:
        return Broken(key, f"views are not RGBA of one size: {sorted({view.shape for view in views})}")
    return Sample(key, np.stack(views), meta)
