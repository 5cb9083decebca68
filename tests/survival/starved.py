"""Small disks, and what else a machine can lack."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@cache
def may_mount() -> bool:
    """Whether this process may mount: root, outside of most containers."""
    with TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0


class Disk:
    """A file system of its own at `folder`, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def limit(self, size: int, inodes: int = 0) -> None:
        """Hold `size` bytes and, unless 0, `inodes` files."""
        self._mount(f"remount,size={size},nr_inodes={inodes}")

    def used(self) -> int:
        stat = os.statvfs(self.folder)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def inodes(self) -> int:
        stat = os.statvfs(self.folder)
        return stat.f_files - stat.f_ffree

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, "tmpfs", str(self.folder)], check=True)


@contextmanager
def disk(folder: Path, content: Path) -> Iterator[Disk]:
    """A disk at `folder` with a copy of `content`, links between files kept."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{content}/.", str(folder)], check=True)
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody can write below `folder`, root included."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def set_apart(root: Path) -> Path:
    """A copy of the project `root` to fill disks from; `root` itself becomes an empty folder to mount them at."""
    apart = root.with_name(f"{root.name}-before")
    root.rename(apart)
    root.mkdir()
    return apart
