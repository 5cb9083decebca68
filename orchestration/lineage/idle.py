"""Taking things away only while nobody works, and working only while nobody takes things away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.locks import holder, locked
from orchestration.workspace import Scratch


@contextmanager
def working() -> Iterator[None]:
    """What a run does that brings bytes into the cache before a row names them. Any number may; who takes away waits
    for none of them and is refused."""
    with locked(_lock(), shared=True):
        yield


@contextmanager
def alone(doing: str) -> Iterator[None]:
    """What takes bytes away. Raises OrbitforgeError, naming who works, and lets nobody begin to."""
    refuse_running(doing)
    with locked(_lock()):
        yield


def refuse_running(doing: str) -> None:
    """Raise OrbitforgeError, naming who, while any artifact is being made: its bytes may be in no row yet."""
    for lock in sorted(paths.work().glob("*/*/*/lock")):
        if who := Scratch(lock.parent).holder():
            asset, shard = lock.parts[-4:-2]
            what = asset if shard == "_" else f"{asset}[{shard}]"
            raise OrbitforgeError(f"{doing} must wait: {what} is being made by {who}; try again when it is done")
    if who := holder(_lock(), shared=True):
        raise OrbitforgeError(f"{doing} must wait: {who} is at work; try again when it is done")


def _lock() -> Path:
    return paths.work() / "cache.lock"
