"""The Dagster home of the project: made once, named by an absolute path in `.env`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import paths
from orchestration.errors import plain_errors
from orchestration.locks import locked
from orchestration.telemetry import SILENT

if TYPE_CHECKING:
    import dagster as dg

TEMPLATE = Path(__file__).parent / "dagster.yaml"


def prepare_home() -> Path:
    """Write `.dagster/dagster.yaml` and `.env` where they are missing; DAGSTER_HOME is set for this process too.

    Dagster reads `.env` in the folder where it is started, so that plain `dagster dev` sees the runs of
    `orbitforge run`. Other lines of `.env` stay; a DAGSTER_HOME of another folder is put right, because a moved
    clone would go on writing into the old one.
    """
    home = paths.dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / TEMPLATE.name).exists():
        shutil.copyfile(TEMPLATE, home / TEMPLATE.name)
    file = paths.root() / ".env"
    before = file.read_text() if file.exists() else ""
    lines = [line for line in before.splitlines() if _name(line) != "DAGSTER_HOME"]
    silent = [f"{name}={value}" for name, value in SILENT.items() if name not in map(_name, lines)]
    after = "\n".join([f"DAGSTER_HOME={home}", *lines, *silent]) + "\n"
    if after != before:
        file.write_text(after)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _name(line: str) -> str:
    return line.partition("=")[0].strip()


def open_instance() -> dg.DagsterInstance:
    """The persistent Dagster instance; use it as a context manager.

    One process at a time: the first makes the database, and two that do so at once fail.
    """
    import dagster as dg

    with plain_errors(f"opening {paths.dagster_home()}"), locked(paths.work() / "dagster.lock"):
        prepare_home()
        return dg.DagsterInstance.get()
