"""Facts about files that are costly to find and hold for as long as the file is unchanged."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestration import paths
from orchestration.errors import OrbitforgeError

_SETTLED = 2_000_000_000  # ns: a file changed this recently may change again under the same time stamp


def settled(changed: int) -> bool:
    """Whether what changed then (in ns) would get another time stamp if it changed now."""
    return time.time_ns() - changed > _SETTLED


class FileMemo:
    """`memo(path, compute)` is `compute(path)`, computed once per inode, size and modification time.

    Kept in `.work/<name>.json` between processes. Losing it costs time only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: dict[str, list[Any]] | None = None
        self._dirty = False

    def __call__(self, path: Path, compute: Callable[[Path], Any]) -> Any:
        if self._known is None:
            self._known = self._load()
            atexit.register(self.save)
        stat = path.stat()
        stamp = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
        known = self._known.get(str(path))
        if known and known[0] == stamp:
            return known[1]
        value = compute(path)
        if settled(stat.st_mtime_ns):
            self._known[str(path)] = [stamp, value]
            self._dirty = True
        return value

    def save(self) -> None:
        if not self._dirty or (file := self._file()) is None:
            return
        kept = {path: entry for path, entry in (self._known or {}).items() if os.path.exists(path)}  # noqa: PTH110
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept))
            temporary.replace(file)
        except (OSError, MemoryError):  # no space, read-only: a memo is not worth an error
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._dirty = False

    def _load(self) -> dict[str, list[Any]]:
        try:
            return json.loads(file.read_text()) if (file := self._file()) else {}
        except (OSError, ValueError):
            return {}

    def _file(self) -> Path | None:
        try:
            return paths.work() / f"{self.name}.json"
        except OrbitforgeError:
            return None
