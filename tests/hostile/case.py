"""What a stranger hands over, where it lies, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "escaped"
"""Stands in the name of every file that an attack means to write where it must not."""
RAN = "ran"
"""The file that an attack writes when its code is run."""


@dataclass(frozen=True)
class Place:
    """The folders of one attack: strangers' files in `given`, the user's project, where all goes, in `project`."""

    root: Path
    given: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def ran(self) -> Path:
        return self.root / RAN


@dataclass(frozen=True)
class Attack:
    """`name` says what it tries; `make` writes it into `place.given` and returns what its door needs to be told.

    `harmless` says why it may be taken, and what is checked then; without it only quarantine or an error will do.
    """

    name: str
    make: Callable[[Place], Any]
    harmless: str = ""


@dataclass(frozen=True)
class Result:
    """What became of an attack. `outcome` begins with quarantined, error or harmless, or else it is a breakage. CPU
    `seconds`, and memory above that before."""

    door: str
    name: str
    outcome: str
    seconds: float
    megabytes: float

    @property
    def held(self) -> bool:
        return self.outcome.partition(":")[0] in ("quarantined", "error", "harmless")


def written(
    name: str, data: bytes | str | Callable[[], bytes], harmless: str = "", *, called: str | None = None
) -> Attack:
    """One file of these bytes, which large ones make late."""

    def make(place: Place) -> Path:
        path = place.given / (called or name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = data() if callable(data) else data
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return Attack(name, make, harmless)


def several(name: str, files: dict[str, bytes | str], harmless: str = "") -> Attack:
    """Several files; the first is the one that is named at the door."""

    def make(place: Place) -> Path:
        for inside, data in files.items():
            path = place.given / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return place.given / next(iter(files))

    return Attack(name, make, harmless)
