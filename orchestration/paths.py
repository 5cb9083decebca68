"""Where things lie below the root of the project."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from orchestration.errors import OrbitforgeError


def root() -> Path:
    """The project: `ORBITFORGE_ROOT`, else the nearest folder at or above the current one with a workspace.yaml.

    Raises OrbitforgeError when there is none.
    """
    if named := os.environ.get("ORBITFORGE_ROOT"):
        return _named(named, os.getcwd())  # noqa: PTH109  # asked for dozens of times a shard
    return _above(os.getcwd())  # noqa: PTH109


@lru_cache(maxsize=4)
def _named(name: str, here: str) -> Path:
    return Path(here, name).resolve()


@lru_cache(maxsize=4)
def _above(name: str) -> Path:
    here = Path(name).resolve()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    raise OrbitforgeError(f"no workspace.yaml in {here} or above; go into the repository or set ORBITFORGE_ROOT")


def data() -> Path:
    """Everything that DVC versions."""
    return root() / "data"


def ledger() -> Path:
    return data() / "ledger"


def work() -> Path:
    """Scratch: may be deleted when nothing runs."""
    return root() / ".work"


def dagster_home() -> Path:
    return root() / ".dagster"


def mlflow_home() -> Path:
    return root() / ".mlflow"
