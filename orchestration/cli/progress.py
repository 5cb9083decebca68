"""A progress bar for each asset that is being made, fed by the reports of the stages; lines where no terminal is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from orchestration.progress import BEAT, words

BESIDES = 48
"""Columns that all but the note take."""


class Bars:
    """Use as a context manager; `hear` is a listener of `orchestration.artifacts`, for any number of threads.

    One bar for each asset, however many shards it has: {"progress": ...} says how far it is, how fast and until when;
    without it, a report with `step` and `of` says how far its shard is. The report's other numbers, or its message,
    stand beside the bar. What is no terminal gets a line for what takes longer than a beat, and one each beat.
    """

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=20)),
            BarColumn(bar_width=12, table_column=Column(min_width=12)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(no_wrap=True, min_width=4)),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=console,
        )
        self._lines = not console.is_terminal
        self._width = max(20, console.width - BESIDES)
        self._tasks: dict[str, TaskID] = {}
        self._notes: dict[str, str] = {}
        self._done: dict[str, dict[str | None, float]] = {}
        self._began: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Bars:
        if not self._lines:
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish(self._tasks)
        if not self._lines:
            self.progress.stop()

    def hear(self, asset: str, shard: str | None, event: dict[str, Any]) -> None:
        with self._lock:
            self._hear(asset, shard, event)

    def of(self, doing: str) -> Callable[[dict[str, Any]], None]:
        """A report function for work that makes no asset: `bars.of("reconciling")({"step": 1, "of": 9})`."""
        return lambda event: self.hear(doing, None, event)

    def _hear(self, asset: str, shard: str | None, event: dict[str, Any]) -> None:
        if asset not in self._tasks:
            self._finish(self._tasks)  # one asset at a time: what spoke before is done
            self._tasks[asset] = self.progress.add_task(asset, total=1.0, note="")
            self._done[asset], self._notes[asset] = {}, ""
            self._began[asset] = self._said[asset] = time.monotonic()
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
        share = sum(done.values()) / len(done) if done else None
        line = words({"shards": None, "failed": 0, "rate": None, "share": share, "left": self._left(asset, share)})
        self._show(asset, share, self._notes[asset], line if done else "")

    def _show(self, asset: str, share: float | None, note: str, line: str) -> None:
        if not self._lines:
            self.progress.update(self._tasks[asset], completed=share, note=note[: self._width])
        elif line and time.monotonic() - self._said[asset] >= BEAT:
            self._said[asset] = time.monotonic()
            self.progress.console.print(f"{asset}: {line}", highlight=False, markup=False, soft_wrap=True)

    def _left(self, asset: str, share: float | None) -> float | None:
        return (time.monotonic() - self._began[asset]) / share * (1 - share) if share else None

    def _finish(self, assets: Iterable[str]) -> None:
        for asset in assets:
            self.progress.update(self._tasks[asset], completed=1.0)


def _note(event: dict[str, Any]) -> str:
    numbers = {k: v for k, v in event.items() if k not in ("step", "of", "seconds") and isinstance(v, int | float)}
    told = [f"{name} {value:.4g}" for name, value in numbers.items()]
    place = [f"{event['step']} of {event['of']}"] if "of" in event and "step" in event else []
    return "  ".join(place + told) or str(event.get("message") or event.get("doing", ""))
