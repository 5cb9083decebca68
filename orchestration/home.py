"""The Dagster home of the project: made once, named by an absolute path in `.env`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from orchestration import paths
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.locks import locked
from orchestration.telemetry import SILENT

if TYPE_CHECKING:
    import dagster as dg

TEMPLATE = Path(__file__).parent / "dagster.yaml"
VARIABLE = "ORBITFORGE_DAGSTER_YAML"
"""Names a file to use in place of the template: PostgreSQL, a launcher of runs, what a team shares."""


def prepare_home() -> Path:
    """Write `.dagster/dagster.yaml` and `.env` where they are missing; DAGSTER_HOME is set for this process too.

    The file that ORBITFORGE_DAGSTER_YAML names takes the place of what is there. Raises OrbitforgeError without it.
    Dagster reads `.env` in the folder where it is started, so that plain `dagster dev` sees the runs of
    `orbitforge run`. Other lines of `.env` stay; a DAGSTER_HOME of another folder is put right, because a moved
    clone would go on writing into the old one.
    """
    home = paths.dagster_home()
    home.mkdir(parents=True, exist_ok=True)
    _configure(home / TEMPLATE.name)
    file = paths.root() / ".env"
    before = file.read_text() if file.exists() else ""
    lines = [line for line in before.splitlines() if _name(line) != "DAGSTER_HOME"]
    silent = [f"{name}={value}" for name, value in SILENT.items() if name not in map(_name, lines)]
    after = "\n".join([f"DAGSTER_HOME={home}", *lines, *silent]) + "\n"
    if after != before:
        _write(file, after)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def _configure(file: Path) -> None:
    named = os.environ.get(VARIABLE)
    template = Path(named) if named else TEMPLATE
    try:
        text = template.read_text()
    except OSError as error:
        raise OrbitforgeError(
            f"{VARIABLE}={named} cannot be read ({error.strerror}); name a file, or unset it"
        ) from None
    if not file.exists() or (named and file.read_text() != text):
        _write(file, text)


def _write(file: Path, text: str) -> None:
    """Whole or not at all: other processes read the file, and `.env` may hold lines of its owner."""
    aside = file.with_name(f"{file.name}.{uuid4().hex}.tmp")
    aside.write_text(text)
    aside.replace(file)


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
