"""A progress bar for each asset that is being made, fed by the reports of the stages; lines where no terminal is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from orchestration.progress import BEAT, duration, words


class Report(Protocol):
    """Takes what a stage reports, or nothing: that work has begun."""

    def __call__(self, event: dict[str, Any] | None = None) -> None: ...


BESIDES = 48
"""Columns that all but the note take."""


class Bars:
    """Use as a context manager; `hear` is a listener of `orchestration.artifacts`, for any number of threads.

    One bar for each asset, however many shards it has: {"progress": ...} says how far it is, how fast and until when;
    without it, a report with `step` and `of` says how far its shard is. The report's other numbers, or its message,
    stand beside the bar. What is no terminal gets a line each beat of what takes longer than one, whether it reports
    or not.
    """

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=20)),
            BarColumn(bar_width=12, table_column=Column(min_width=12)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            transient=transient,
        )
        self._lines = not console.is_terminal
        self._width = max(20, console.width - BESIDES)
        self._tasks: dict[str, TaskID] = {}
        self._notes: dict[str, str] = {}
        self._done: dict[str, dict[str | None, float]] = {}
        self._began: dict[str, float] = {}
        self._said = ("", 0.0)  # the last line: of what, and when
        self._line = ""
        self._lock = threading.RLock()
        self._stop = threading.Event()

    def __enter__(self) -> Bars:
        if self._lines:
            threading.Thread(target=self._beats, daemon=True).start()
        else:
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if kind is None:
            self._finish(self._tasks)
        if not self._lines:
            self.progress.stop()

    def hear(self, asset: str, shard: str | None, event: dict[str, Any]) -> None:
        with self._lock:
            self._hear(asset, shard, event)

    def of(self, doing: str) -> Report:
        """For work that makes no asset: `bars.of("reconciling")({"step": 1, "of": 9})`, or nothing at all for a single
        long one, `bars.of("drawing")()`."""
        return lambda event=None: self.hear(doing, None, event or {})

    def _hear(self, asset: str, shard: str | None, event: dict[str, Any]) -> None:
        if asset not in self._tasks:
            self._finish(self._tasks)  # one asset at a time: what spoke before is done
            self._tasks[asset] = self.progress.add_task(asset, total=1.0, note="")
            self._done[asset], self._notes[asset] = {}, ""
            self._began[asset] = time.monotonic()
            self._said = asset, self._began[asset]
        if told := event.get("progress"):
            self._done.pop(asset, None)
            text = "  ".join(filter(None, (words(told), self._notes[asset])))
            self._show(asset, told["share"], text, words(told))
            return
        if event.get("of") and "step" in event and asset in self._done:
            self._done[asset][shard] = min(1.0, event["step"] / event["of"])
        where = "" if shard is None else f"{shard}  "
        self._notes[asset] = where + _note(event)
        done = self._done.get(asset)
        if done is None and self._lines:  # its progress says more
            return
        share = sum(done.values()) / len(done) if done else None
        left = self._left(asset, share)
        ending = f"{share:.0%}, {duration(left)} left" if share and left is not None else ""
        self._show(asset, share, "  ".join(filter(None, (ending, self._notes[asset]))), ending or self._notes[asset])

    def _show(self, asset: str, share: float | None, note: str, line: str) -> None:
        if self._lines:
            self._line = line
            self._say(asset)
        else:
            self.progress.update(self._tasks[asset], completed=share, note=note[: self._width])

    def _say(self, asset: str) -> None:
        if asset and asset == self._said[0] and time.monotonic() - self._said[1] >= BEAT:
            self._said = asset, time.monotonic()
            so_far = f"{duration(time.monotonic() - self._began[asset])} so far"
            line = f"{asset}: {', '.join(filter(None, (self._line, so_far)))}"
            self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _beats(self) -> None:
        while not self._stop.wait(BEAT):
            with self._lock:
                self._say(self._said[0])

    def _left(self, asset: str, share: float | None) -> float | None:
        return (time.monotonic() - self._began[asset]) / share * (1 - share) if share else None

    def _finish(self, assets: Iterable[str]) -> None:
        for asset in assets:
            self.progress.update(self._tasks[asset], completed=1.0)


@contextmanager
def working(console: Console, doing: str) -> Iterator[Report]:
    """A bar that goes when the work is over, for what takes seconds or, with other models, minutes."""
    with Bars(console, transient=True) as bars:
        tell = bars.of(doing)
        tell()
        yield tell


def _note(event: dict[str, Any]) -> str:
    numbers = {k: v for k, v in event.items() if k not in ("step", "of", "seconds") and isinstance(v, int | float)}
    told = [f"{name} {value:.4g}" for name, value in numbers.items()]
    place = [f"{event['step']} of {event['of']}"] if "of" in event and "step" in event else []
    return "  ".join(place + told) or str(event.get("message") or event.get("doing", ""))
