"""Objaverse 1.0 through its `objaverse` package (extra `objaverse`), which downloads when it is asked.

The package has no retry and no time limit, and one address that fails ends a whole call. So it is asked for chunks, in
a child process with a time limit, and a chunk that fails is halved until the failing object is alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from stages.errors import InputError
from stages.objects.collections.item import UNKNOWN, Item, captioned, plain_id, readable
from stages.objects.collections.screen import licence_allowed
from stages.sandbox import Limits, Sandbox, SandboxError

SOURCE = "Objaverse 1.0"
CPU_SECONDS = 600.0


@dataclass(frozen=True)
class Objaverse:
    """The objects `uids`, or the first `count` of all. `state` is a file that remembers what was downloaded.

    `licences` are patterns of those worth a download; none takes all. `seconds` is the time limit of one object.
    """

    state: Path
    uids: Sequence[str] = ()
    count: int | None = None
    licences: Sequence[str] = ()
    chunk: int = 500
    seconds: float = 60.0
    retries: int = 3

    def items(self, scratch: Path) -> Iterator[Item]:
        """Downloads go to the package's own folder, `~/.objaverse`. Failures of an earlier run are tried again."""
        if importlib.util.find_spec("objaverse") is None:
            raise InputError("objaverse is not installed; add it with `pip install orbitforge[objaverse]`")
        wanted = list(self.uids) or self._call(_uids, CPU_SECONDS, self.count)
        done = self._done()
        for start in range(0, len(wanted), self.chunk):
            uids = wanted[start : start + self.chunk]
            notes = self._call(_annotations, CPU_SECONDS, uids)
            known = [uid for uid in uids if uid in notes]
            allowed = [uid for uid in known if licence_allowed(readable(notes[uid].get("license")), self.licences)]
            paths = {uid: done[uid] for uid in allowed if uid in done and Path(done[uid]).is_file()}
            failed: dict[str, str] = {}
            self._fetch([uid for uid in allowed if uid not in paths], paths, failed)
            for uid in uids:
                yield _item(uid, notes.get(uid), paths.get(uid), failed.get(uid), fetched=uid in allowed)

    def _fetch(self, uids: list[str], paths: dict[str, str], failed: dict[str, str]) -> None:
        error = ""
        for _ in range(self.retries if len(uids) == 1 else min(1, len(uids))):
            try:
                found = self._call(_download, self.seconds * len(uids), uids, self.seconds)
            except InputError as problem:
                error = str(problem)
                continue
            paths.update(found)
            self._note([{"uid": uid, "path": path} for uid, path in found.items()])
            return
        if len(uids) == 1:
            failed[uids[0]] = error
            self._note([{"uid": uids[0], "error": error}])
        elif uids:
            half = len(uids) // 2
            self._fetch(uids[:half], paths, failed)
            self._fetch(uids[half:], paths, failed)

    def _call(self, function: Any, wall: float, *args: Any) -> Any:
        """Raises InputError with what the package, or the time limit, said."""
        try:
            with Sandbox(function, Limits(seconds=CPU_SECONDS, wall=wall, gigabytes=16)) as child:
                return child(*args)
        except SandboxError as error:
            raise InputError(f"objaverse: {error}") from error
        except Exception as error:  # urllib, gzip and json raise many types
            raise InputError(f"objaverse: {type(error).__name__}: {error}") from error

    def _done(self) -> dict[str, str]:
        lines = self.state.read_text().splitlines() if self.state.is_file() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]  # a kill may have cut the last one
        return {row["uid"]: row["path"] for row in rows if "path" in row}

    def _note(self, rows: list[dict[str, str]]) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.state.open("a") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)


def _item(uid: str, note: dict[str, Any] | None, path: str | None, error: str | None, *, fetched: bool) -> Item:
    note = note or {}
    names = [each.get("name", "") for each in note.get("categories") or []]
    reason = None if path else f"download failed: {error or 'the package knows no such object'}"
    return Item(
        id=plain_id(uid),
        file=f"objaverse/{uid}",
        path=Path(path) if path else None,
        caption=captioned(note.get("name") or "object"),
        licence=readable(note.get("license")),
        creator=(note.get("user") or {}).get("username") or UNKNOWN,
        category=names[0] if names else UNKNOWN,
        source=note.get("viewerUrl") or SOURCE,
        reason=reason if fetched or not note else "licence not allowed: it was not downloaded",
    )


# in the child


def _package() -> Any:
    return importlib.import_module("objaverse")  # an extra


def _uids(count: int | None) -> list[str]:
    return list(islice(_package().load_uids(), count))


def _annotations(uids: list[str]) -> dict[str, dict[str, Any]]:
    return _package().load_annotations(uids)


def _download(uids: list[str], seconds: float) -> dict[str, str]:
    socket.setdefaulttimeout(seconds)
    return {uid: str(path) for uid, path in _package().load_objects(uids).items()}
