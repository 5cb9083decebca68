"""The scratch folder of one artifact, and the way of its bytes: from the cache to the stage and back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration import paths
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.ledger import File
from orchestration.locks import holder, locked
from orchestration.resources.store import link_types, object_path
from orchestration.versions import file_md5

_FICLONE = 0x40049409  # ioctl of Linux: share the blocks of another file


@dataclass(frozen=True)
class Scratch:
    """`.work/<asset>/<shard or _>/<key>/`: what one process makes of exactly one set of inputs, code and config."""

    folder: Path

    @classmethod
    def of(cls, asset: str, shard: str | None, key: str) -> Scratch:
        return cls(paths.work() / asset / (shard or "_") / key)

    @property
    def state(self) -> Path:
        """The stage's own: resume states and previews. Outlives a kill."""
        return self.folder / "state"

    @property
    def preview(self) -> Path:
        return self.state / "preview"

    @contextmanager
    def held(self, note: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the folder for this process; a killed process holds nothing.

        Raises OrbitforgeError when another one held it for ORBITFORGE_WAIT_HOURS.
        """
        with locked(self.folder / "lock", note=note, waiting=waiting):
            yield

    def holder(self) -> str | None:
        return holder(self.folder / "lock")

    def fresh(self, name: str) -> Path:
        """An empty sub-folder; what a killed process left there is removed."""
        folder = self.folder / name
        remove(folder)
        with plain_errors(f"making {folder}"):
            folder.mkdir(parents=True)
        return folder

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a small JSON file, whole or not at all."""
        path = self.folder / f"{name}.json"
        temporary = path.with_suffix(".tmp")
        with plain_errors(f"writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(content))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        remove(self.folder)


# rows and folders


@contextmanager
def changing_data() -> Iterator[None]:
    """From a row to its files in `data/`: any number of processes at once, while none puts right what it finds."""
    with locked(paths.work() / "commit.lock", shared=True):
        yield


@contextmanager
def alone_with_data() -> Iterator[None]:
    """No row is on its way into `data/`: what differs there from the ledger was left so."""
    with locked(paths.work() / "commit.lock"):
        yield


# into the cache


def store(output: Path) -> tuple[File, ...]:
    """Move every file below `output` into the cache and say what it was, sorted by path.

    A kill leaves objects that nothing names yet, never half of one. Raises OrbitforgeError for an empty folder, for
    links and other special files, and when the cache cannot be written.
    """
    return tuple(File(path.relative_to(output).as_posix(), *_into_cache(path)) for path in _plain_files(output))


def described(output: Path) -> tuple[File, ...]:
    """What `store` would say of the files below `output`, which stay where they are."""
    return tuple(
        File(path.relative_to(output).as_posix(), file_md5(path), path.stat().st_size) for path in _plain_files(output)
    )


def _plain_files(output: Path) -> list[Path]:
    files = sorted(path for path in output.rglob("*") if not stat.S_ISDIR(path.lstat().st_mode))
    if not files:
        raise OrbitforgeError(f"{output} is empty: a stage must write at least one file")
    for path in files:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OrbitforgeError(f"{path} is no plain file: a stage may write plain files only")
    return files


def adopt(path: Path, md5: str) -> int:
    """Make sure that the cache holds the object `md5`, from `path` if need be; returns its size.

    Raises OrbitforgeError when `path` is missing or holds something else.
    """
    known = object_path(md5)
    if not known.is_file():
        if not path.is_file():
            raise OrbitforgeError(f"{path} is missing; fetch it with `dvc pull` or put it back")
        if (found := file_md5(path)) != md5:
            raise OrbitforgeError(
                f"{path} has md5 {found}, its table says {md5}: put the file back or correct the table"
            )
        with plain_errors(f"copying {path} into the DVC cache"):
            _arrive(known, lambda temporary: _copy(path, temporary))
    return known.stat().st_size


def _into_cache(path: Path) -> tuple[str, int]:
    md5, size = file_md5(path), path.stat().st_size
    target = object_path(md5)
    with plain_errors(f"moving {path} into the DVC cache"):
        if target.is_file() and target.stat().st_size == size:
            path.unlink()
        else:
            _arrive(target, lambda temporary: shutil.move(path, temporary))
    return md5, size


def _arrive(target: Path, bring: Callable[[Path], Any]) -> None:
    """Let `bring` fill a temporary file beside `target`, then give it its name: whole or not at all."""
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        bring(temporary)
        temporary.chmod(0o444)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


# out of the cache


def missing(files: Iterable[File]) -> list[File]:
    """Those of `files` whose object is not in the cache."""
    return [file for file in files if not object_path(file.md5).is_file()]


def link_inputs(folder: Path, files: Iterable[File], of: str) -> None:
    """Fill the new folder `folder` with links to cache objects and make it read-only.

    Raises OrbitforgeError, naming `of`, when an object is not in the cache.
    """
    files = list(files)
    if absent := missing(files):
        raise OrbitforgeError(
            f"{of}: {len(absent)} of {len(files)} files are not in the DVC cache, first {absent[0].path} "
            f"(md5 {absent[0].md5}); fetch them with `dvc pull` or make {of} again"
        )
    with plain_errors(f"linking {of} into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            link = folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(object_path(file.md5))


def protect(folder: Path) -> None:
    """Take the right to write from `folder` and all folders below it."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o555)


def place(folder: Path, files: Iterable[File]) -> None:
    """Make `folder` below `data/` hold exactly `files`, from the cache.

    It is built aside and takes the place of what was there in one step (two renames): nobody sees half of it. Only a
    kill between the two leaves the place empty, which `reconcile()` mends.
    """
    aside = paths.work() / "placing" / uuid.uuid4().hex
    with plain_errors(f"placing {folder}"):
        new, old = aside / "new", aside / "old"
        try:
            for file in files:
                path = new / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                link(object_path(file.md5), path)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                folder.rename(old)
            new.rename(folder)
        finally:
            remove(aside)


def in_place(folder: Path, files: Iterable[File]) -> bool:
    """Whether `folder` holds exactly `files`. Content is compared only where a file is not the cache's own."""
    expected = {file.path: file for file in files}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return found == expected.keys() and all(_same(folder / file.path, file) for file in expected.values())


def _same(path: Path, file: File) -> bool:
    here = path.stat()
    if here.st_size != file.size:
        return False
    with suppress(FileNotFoundError):
        there = object_path(file.md5).stat()
        if here.st_ino == there.st_ino or here.st_mtime_ns == there.st_mtime_ns:
            return True
    return file_md5(path) == file.md5


def link(source: Path, target: Path) -> None:
    """The cheapest link to `source` that the configuration and the file systems allow."""
    for kind in link_types():
        try:
            if kind == "hardlink":
                os.link(source, target)
            elif kind == "symlink":
                target.symlink_to(source)
            elif kind == "reflink":
                _reflink(source, target)
            else:
                break
            return
        except OSError:
            target.unlink(missing_ok=True)
    shutil.copy2(source, target)


def _copy(source: Path, target: Path) -> None:
    try:
        _reflink(source, target)
    except OSError:
        shutil.copy2(source, target)


def _reflink(source: Path, target: Path) -> None:
    with source.open("rb") as there, target.open("wb") as here:
        fcntl.ioctl(here, _FICLONE, there.fileno())
    shutil.copystat(source, target)


def set_aside(path: Path) -> Path:
    """Move `path` to `.work/unclaimed/`, keeping its place below `data/` in the name; returns where it is now."""
    unclaimed = paths.work() / "unclaimed" / path.relative_to(paths.data())
    target, number = unclaimed, 1
    while target.exists():
        number += 1
        target = unclaimed.with_name(f"{unclaimed.name}.{number}")
    with plain_errors(f"moving {path} to {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return target


def remove(folder: Path) -> None:
    """Remove a folder of ours, read-only parts included; nothing happens when there is none."""
    if not folder.exists():
        return
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
