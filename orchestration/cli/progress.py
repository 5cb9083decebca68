"""A progress bar for each asset that is being made, fed by the reports of the stages."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text


class Bars:
    """Use as a context manager; `hear` is a listener of `orchestration.artifacts`.

    A report with `step` and `of` moves the bar of its asset (of each shard, where it has shards); other numbers in it
    stand beside the bar, a `message` is printed above.
    """

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
        )
        self._tasks: dict[tuple[str, str | None], TaskID] = {}

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def hear(self, asset: str, shard: str | None, event: dict[str, Any]) -> None:
        if message := event.get("message"):
            self.progress.console.print(Text(f"{_name(asset, shard)}: {message}"))
        if "of" in event and "step" in event:
            self.progress.update(
                self._task(asset, shard), completed=event["step"], total=event["of"], note=_note(event)
            )

    def _task(self, asset: str, shard: str | None) -> TaskID:
        if (asset, shard) not in self._tasks:
            self._tasks[asset, shard] = self.progress.add_task(_name(asset, shard), total=None, note="")
        return self._tasks[asset, shard]


def _name(asset: str, shard: str | None) -> str:
    return asset if shard is None else f"{asset}/{shard}"


def _note(event: dict[str, Any]) -> str:
    numbers = {k: v for k, v in event.items() if k not in ("step", "of") and isinstance(v, int | float)}
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
