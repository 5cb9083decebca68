"""Attacks in a child process: its time and its memory are watched, it is replaced when it had to be killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.hostile.case import Attack, Place, Result

SECONDS, WAITING, MEGABYTES = 30.0, 240.0, 2000.0
"""Limits of one file, for the child and all that it starts: CPU seconds, seconds on the clock of a machine that may be
busy, and memory above what it had."""
ROOT = Path(__file__).parents[2]


class Runner:
    """Runs doors. Use as a context manager."""

    def __enter__(self) -> Runner:
        self._folder = Path(tempfile.mkdtemp(prefix="hostile-")).resolve()
        self._child: subprocess.Popen[str] | None = None
        self._runs = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if log := (self._folder / "log").read_text()[-3000:] if os.environ.get("HOSTILE_LOG") else "":
            print(log)
        _removed(self._folder)

    def run(self, door: str, every: int = 1) -> list[Result]:
        """What became of each attack on a door, or of every so manyth, in their order."""
        from tests.hostile.doors import doors

        names = [attack.name for attack in doors()[door][1]]
        assert len(set(names)) == len(names), "names tell attacks apart"
        names = names[::every]
        found: dict[str, Result] = {}
        while waiting := [name for name in names if name not in found]:
            found |= {result.name: result for result in self._some(door, waiting)}
        return [found[name] for name in names]

    def _some(self, door: str, names: Sequence[str]) -> Iterator[Result]:
        """Results of some of `names`: at least of one."""
        child = self._child or self._started()
        assert child.stdin
        self._runs += 1
        folder = self._folder / str(self._runs)
        child.stdin.write(json.dumps({"door": door, "names": names, "folder": str(folder)}) + "\n")
        child.stdin.flush()
        outcomes: dict[str, str] = {}
        took: dict[str, tuple[float, float]] = {}
        at, began, base, peak, before = "", time.monotonic(), 0.0, 0.0, 0.0
        while True:
            line = self._line(0.03)
            now = time.monotonic()
            memory, used = _taken(child.pid)
            peak = max(peak, memory)
            if line is None:
                over = now - began > WAITING or (at and used - before > SECONDS)
                if child.poll() is None and not over and not (at and peak - base > MEGABYTES):
                    continue
                told = "DIED" if child.poll() is not None else "HANG" if over else "OVER ITS MEMORY"
                self._stop()
                if not at:
                    raise AssertionError(f"{door}: {told} outside of any attack")
                took[at] = used - before, peak - base
                outcomes = {name: outcome for name, outcome in outcomes.items() if outcome} | {at: told}
                break
            event: dict[str, Any] = json.loads(line)
            if "start" in event:
                at, began, base, peak, before = event["start"], now, memory, memory, used
            elif "done" in event:
                outcomes[event["done"]] = event["outcome"]
                took.setdefault(event["done"], (used - before, peak - base))
                at, began = "", now
            else:
                if event.get("error"):
                    outcomes = {name: outcome for name, outcome in outcomes.items() if outcome}
                    if not at:
                        raise AssertionError(f"{door}: {event['error']}")
                    took[at] = used - before, peak - base
                    outcomes[at] = event["error"]
                break
        _removed(folder)
        for name, outcome in outcomes.items():
            yield Result(door, name, outcome, *took[name])

    def _started(self) -> subprocess.Popen[str]:
        here, there = os.pipe()
        environment = os.environ | {
            "HOSTILE": str(self._folder),
            "HOSTILE_EVENTS": str(there),
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "2",
            "NO_COLOR": "1",
        }
        self._log = (self._folder / "log").open("a")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.child"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            text=True,
            pass_fds=[there],
        )
        os.close(there)
        os.set_blocking(here, False)
        self._events, self._rest = here, b""
        return self._child

    def _line(self, wait: float) -> bytes | None:
        with suppress(BlockingIOError):
            self._rest += os.read(self._events, 1 << 16)
        if b"\n" not in self._rest:
            time.sleep(wait)
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _stop(self) -> None:
        if self._child is None:
            return
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self._child.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        self._child.kill()
        self._child.wait()
        os.close(self._events)
        self._log.close()
        self._child = None


def _taken(pid: int) -> tuple[float, float]:
    """Memory of a process and its children (what they share counts once for each, which errs to the safe side), and
    CPU seconds of them and of those that have ended."""
    memory = seconds = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory += each.memory_info().rss / 1e6
                seconds += sum(each.cpu_times()[:4])
    return memory, seconds


def _removed(folder: Path) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def places(folder: Path, attacks: Sequence[Attack]) -> list[tuple[Attack, Place]]:
    """A place for each: the given files of all lie below one folder."""
    found = []
    for number, attack in enumerate(attacks):
        place = Place(folder / f"{number:03d}", folder / "given" / f"{number:03d}")
        place.given.mkdir(parents=True)
        place.project.mkdir(parents=True)
        found.append((attack, place))
    return found
