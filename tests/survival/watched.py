"""The real command, with a line in a log for each report and each moment of the seam: `python -m ... LOG ARGS`.

A moment is the beginning or the end of something that the seam does to the disk or to a service. With
ORBITFORGE_SURVIVAL_AT=N this process sends itself the signal ORBITFORGE_SURVIVAL_SIGNAL at the N-th.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

AT, SIGNAL = "ORBITFORGE_SURVIVAL_AT", "ORBITFORGE_SURVIVAL_SIGNAL"
SEAM = {
    "orchestration.artifacts": ["_put_back", "_commit", "place"],
    "orchestration.tasks.Scratch": ["fresh", "write", "remove"],
    "orchestration.workspace": ["_arrive"],
    "orchestration.lineage.ledger.Ledger": ["append", "compact"],
    "orchestration.publish": ["register", "event"],
    "orchestration.publish.store": ["publish"],
}


class Log:
    """Lines of JSON, each written at once, so that a kill leaves whole ones."""

    def __init__(self, path: Path, at: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._at, self._count = at, 0

    def line(self, **facts: Any) -> None:
        os.write(self._file, (json.dumps({"at": time.time(), **facts}) + "\n").encode())

    def moment(self, name: str) -> None:
        self._count += 1
        self.line(moment=name, number=self._count)
        if self._count == self._at:
            os.kill(os.getpid(), int(os.environ[SIGNAL]))

    def watch(self, owner: Any, attribute: str) -> None:
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            self.moment(f"{attribute} begins")
            result = function(*arguments, **named)
            self.moment(f"{attribute} ends")
            return result

        setattr(owner, attribute, watched)


def main(path: str, arguments: list[str]) -> None:
    from pydoc import locate

    from orchestration import artifacts
    from orchestration.cli import main as command

    log = Log(Path(path), int(os.environ.get(AT, "0")))
    for owner, attributes in SEAM.items():
        for attribute in attributes:
            log.watch(locate(owner), attribute)

    def hear(asset: str, shard: str | None, event: dict[str, Any]) -> None:
        if "progress" not in event:
            told = {name: event.get(name) for name in ("step", "of", "doing")}
            log.line(asset=asset, shard=shard, **told)

    artifacts.LISTENERS.append(hear)
    log.line(moment="started", number=0)
    sys.argv = ["orbitforge", *arguments]
    command.app()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
