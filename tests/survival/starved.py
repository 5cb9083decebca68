"""Small disks, and what else a machine can lack."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.waiting import until


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


def hold_to(kind: int, size: int) -> None:
    """Limit this process, and those that it starts, for good: root may not raise the limit again either."""
    ctypes.CDLL(None).prctl(24, 24)  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE: counts from the next exec on
    resource.setrlimit(kind, (size, size))


class Group:
    """A control group below this process's own; what joins it, and what that starts, shares `size` bytes of memory."""

    def __init__(self, size: int) -> None:
        own = {names: path for _, names, path in (line.split(":", 2) for line in _own_groups())}
        first = "memory" in own  # cgroup v1, with a tree for memory alone
        above = Path(f"/sys/fs/cgroup/{'memory' if first else ''}{own['memory' if first else '']}")
        self.folder = above / f"orbitforge-{os.getpid()}"
        self._limit = self.folder / ("memory.limit_in_bytes" if first else "memory.max")
        self._size = size

    def __enter__(self) -> Group:
        self.folder.mkdir()
        try:
            self._limit.write_text(str(self._size))
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        until(lambda: not (self.folder / "cgroup.procs").read_text(), 10)  # killed ones are still leaving
        self.folder.rmdir()

    def join(self, root: object = None) -> None:
        """Put this process into the group; `root` is what a toy command calls it with."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))


def _own_groups() -> list[str]:
    return Path("/proc/self/cgroup").read_text().splitlines()


@cache
def may_group() -> str:
    """Why this process may not limit the memory of a control group; "" where it may."""
    try:
        with Group(1 << 30):
            return ""
    except (OSError, KeyError) as error:
        return f"cannot make a control group with a limit of memory: {error}"
