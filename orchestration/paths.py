"""Where things lie below the root of the project."""

from __future__ import annotations

import os
from pathlib import Path

from orchestration.errors import OrbitforgeError


def root() -> Path:
    """The project: `ORBITFORGE_ROOT`, else the nearest folder at or above the current one with a workspace.yaml.

    Raises OrbitforgeError when there is none.
    """
    if named := os.environ.get("ORBITFORGE_ROOT"):
        return Path(named).resolve()
    here = Path.cwd().resolve()
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
