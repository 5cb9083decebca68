"""What a person judged and what is not yet in a label file: one line a verdict, on the disk before the page goes on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from orchestration.errors import OrbitforgeError
from orchestration.locks import holder, locked

FIELDS = frozenset(("clip", "verdict", "reason", "who", "date", "source"))


class Journal:
    """The open verdicts of one person. Held by one process at a time; survives its end, however it comes."""

    def __init__(self, folder: Path, who: str) -> None:
        """Raises OrbitforgeError when another process labels under this name."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", who).strip("-")[:40]
        self.path = folder / f"{slug}-{hashlib.md5(who.encode()).hexdigest()[:8]}.jsonl"
        self.torn: list[str] = []
        lock = self.path.with_suffix(".lock")
        if other := holder(lock):
            raise OrbitforgeError(f"{who!r} labels in another process already ({other}); give another --by NAME")
        self._held = ExitStack()
        self._held.enter_context(locked(lock, note=f"pid {os.getpid()}"))
        self.rows = _read(self.path, self.torn)
        if self.torn:  # what comes next must not be glued to half a line
            self._rewrite()

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def pop(self) -> dict[str, Any] | None:
        """Take back the last open verdict."""
        if not self.rows:
            return None
        row = self.rows.pop()
        self._rewrite()
        return row

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """All others are in a label file."""
        self.rows = rows
        self._rewrite()

    def close(self) -> None:
        self._held.close()

    def _rewrite(self) -> None:
        whole = self.path.with_suffix(".new")
        whole.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        whole.replace(self.path)


def open_verdicts(folder: Path) -> list[dict[str, Any]]:
    """Those of everyone, whatever process writes them."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in _read(path, [])]


def _read(path: Path, torn: list[str]) -> list[dict[str, Any]]:
    """The verdicts of a journal; a line that a process did not finish is told in `torn`."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or row.keys() != FIELDS:
                raise ValueError("no verdict")
            rows.append(row)
        except ValueError:
            torn.append(f"half a verdict, not counted: {line[:80]!r}")
    return rows
