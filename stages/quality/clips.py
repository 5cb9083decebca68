"""Reads clips one by one, so that a broken clip is named and its neighbours are not lost."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from stages.documents import read_json
from stages.poses import FARTHEST
from stages.shards import Sample, decode_views
from stages.text import spelled_out, unfit

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
    """The clips of a shard in order, broken ones as `Broken`; what is no plain file in it is none of its clips' files.

    Raises ValueError when the tar itself is damaged: what it held is then unknown, so the shard must be made again.
    """
    with _opened(path) as tar:
        seen: set[str] = set()
        for key, members in groupby(_members(tar), key=lambda member: member.name.split(".")[0]):
            found = [(member.name[len(key) + 1 :], _read(tar, member)) for member in members]
            files = dict(found)
            yield Broken(key, "is there twice") if key in seen or len(files) < len(found) else _clip(key, files)
            seen.add(key)


def count_clips(path: Path) -> int:
    """How many clips a shard holds, broken ones included, without reading one. Raises ValueError as `read_clips`."""
    with _opened(path) as tar:
        return sum(1 for _ in groupby(_members(tar), key=lambda member: member.name.split(".")[0]))


def read_clip(path: Path, id_: str) -> Sample | Broken:
    """One clip of a shard, without decoding the others. Raises KeyError when the shard has none of that id."""
    with _opened(path) as tar:
        members = [member for member in tar if member.name.split(".")[0] == id_]
        if not members:
            raise KeyError(f"{path} holds no clip {id_!r}")
        return _clip(id_, {member.name[len(id_) + 1 :]: _read(tar, member) for member in members})


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar that is not packed: a pack has no end that its size tells."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except (tarfile.TarError, OverflowError, OSError) as error:
        # a member of 2^62 bytes is farther than a file can be
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path} is no complete tar ({error}); delete the shard and make it again") from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """One by one; tarfile would keep all that it saw."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        yield member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Nothing for links, devices, and files with holes, which may say that they have any size."""
    file = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if file and member.size > Path(str(tar.name)).stat().st_size:  # or it would be said that memory ends
        raise tarfile.ReadError(f"{member.name} is larger than the tar")
    return file.read() if file else b""


def _is_torn(png: bytes) -> bool:
    try:
        decode_views([png])
    except Exception:
        return True
    return False


def _clip(key: str, files: dict[str, bytes]) -> Sample | Broken:
    if "/" in key or unfit(key):
        return Broken(spelled_out(key), "its name is no name of a sample")
    if "json" not in files:
        return Broken(key, "no metadata")
    try:
        meta = read_json(files["json"])
        numbers = np.array(meta["cameras"], dtype=np.float32)
        if numbers.ndim != 2 or numbers.shape[1] != 16 or not (np.abs(numbers) < FARTHEST).all():
            return Broken(key, f"its cameras are not 16 numbers each, finite and below {FARTHEST:g}")
        cameras = len(numbers)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        return Broken(key, f"unreadable metadata: {type(error).__name__}")
    names = sorted(name for name in files if name.endswith(".png"))
    if len(names) != cameras or cameras < 2:
        return Broken(key, f"{len(names)} views for {cameras} cameras")
    try:
        views = decode_views([files[name] for name in names])
    except ValueError as error:  # its own words
        return Broken(key, str(error))
    except MemoryError:
        raise
    except Exception:  # pillow raises nearly any type on damaged files, with addresses that no two runs share
        return Broken(key, f"view {next(name for name in names if _is_torn(files[name]))} is not a readable PNG")
    if views.ndim != 4 or views.shape[-1] != 4:
        return Broken(key, f"views are not RGBA of one size: {views.shape}")
    return Sample(key, views, meta)
