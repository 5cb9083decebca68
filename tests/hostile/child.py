"""The child of the runner: doors from standard input, events to a pipe."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from orchestration import telemetry
from tests.hostile.doors import doors
from tests.hostile.runner import ROOT, places


def main() -> None:
    telemetry.silence()
    events = os.fdopen(int(os.environ["HOSTILE_EVENTS"]), "w", buffering=1)

    def tell(**event: str) -> None:
        events.write(json.dumps(event) + "\n")

    for line in sys.stdin:
        os.chdir(ROOT)
        asked = json.loads(line)
        door, attacks = doors()[asked["door"]]
        wanted = [attack for attack in attacks if attack.name in asked["names"]]
        error = ""
        try:
            door(
                places(Path(asked["folder"]), wanted),
                lambda name: tell(start=name),
                lambda name, outcome: tell(done=name, outcome=outcome),
            )
        except BaseException as problem:
            traceback.print_exc()
            error = f"TRACEBACK: {type(problem).__name__}: {str(problem)[:200]}"
        tell(error=error)


if __name__ == "__main__":
    main()
