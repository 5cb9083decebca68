"""Refusing to take things away while somebody works."""

from __future__ import annotations

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.workspace import Scratch


def refuse_running(doing: str) -> None:
    """Raise OrbitforgeError, naming who, while any artifact is being made: its bytes may be in no row yet."""
    for lock in sorted(paths.work().glob("*/*/*/lock")):
        if who := Scratch(lock.parent).holder():
            asset, shard = lock.parts[-4:-2]
            what = asset if shard == "_" else f"{asset}[{shard}]"
            raise OrbitforgeError(f"{doing} must wait: {what} is being made by {who}; try again when it is done")
