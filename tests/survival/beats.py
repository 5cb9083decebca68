"""Work that shows that it goes on: a line in a file every tenth of a second, under a lock."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from orchestration.locks import locked


def beat(file: Path, report: Any) -> int:
    with locked(file.with_suffix(".lock")):
        report({"step": 0, "of": 1})
        for _ in range(3000):
            with file.open("a") as lines:
                lines.write(f"{os.getpid()}\n")
            time.sleep(0.1)
    return os.getpid()
