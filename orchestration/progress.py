"""How far a step is: shards done of all, its rate and the time left, for terminals, logs and `orbitforge status`.

While a step runs, `.work/<asset>/running-<preset>.json` says the same to other processes.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

from orchestration import paths
from orchestration.lineage.current import Shard
from orchestration.steps import Step

BEAT = 10.0
"""Seconds between two lines in the log, and between two heartbeats."""


@dataclass
class Progress:
    """`of` artifacts were asked for, of which `fresh` were there before."""

    step: Step
    preset: str
    of: int = 1
    fresh: int = 0
    made: int = 0
    failed: int = 0
    began: float = field(default_factory=lambda: time.monotonic())
    _part: dict[Shard, tuple[float, float]] = field(default_factory=dict)  # shard -> share and items, while it is made
    _whole: tuple[float, float] = (0.0, 0.0)  # shards that are over, and their items
    _start: tuple[float, float, float] | None = None  # of what goes on from an earlier state: seconds, share, items
    _beat: float = 0.0

    def hear(self, shard: Shard, event: dict[str, Any]) -> None:
        """A report of the stage: how many of its items (clips, objects, training steps) are done."""
        if event.get("of") and "step" in event:
            self._part[shard] = min(1.0, event["step"] / event["of"]), event["step"]
            if self._start is None and self.step.shards is None:
                self._start = (self.seconds, *self._part[shard])

    def finish(self, shard: Shard, *, failed: bool = False) -> None:
        self.made += not failed
        self.failed += failed
        _, items = self._part.pop(shard, (1.0, 0.0))
        self._whole = self._whole[0] + 1, self._whole[1] + (0.0 if failed else items)

    @property
    def _done(self) -> tuple[float, float]:
        """Shards and items of this run, those in the making by their share."""
        shares, items = zip(*self._part.values(), strict=True) if self._part else ((), ())
        return self._whole[0] + sum(shares), self._whole[1] + sum(items)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float:
        """Of all that is to be done, 0 to 1; what was fresh before counts."""
        return min(1.0, (self.fresh + self._done[0]) / max(1, self.of))

    @property
    def rate(self) -> float | None:
        """Items a second; None before the first."""
        since, _, items = self._start or (0.0, 0.0, 0.0)
        done, seconds = self._done[1] - items, self.seconds - since
        return done / seconds if done > 0 and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds, at the pace so far."""
        since, share, _ = self._start or (0.0, self.fresh / max(1, self.of), 0.0)
        done = self.share - share
        return (self.seconds - since) / done * (1 - self.share) if done > 0 else None

    def as_json(self) -> dict[str, Any]:
        return {
            "shards": self.of if self.step.shards else None,
            "done": self.fresh + self.made,
            "failed": self.failed,
            "share": round(self.share, 4),
            "rate": self.rate,
            "unit": self.step.unit,
            "left": self.left,
        }

    def words(self) -> str:
        return words(self.as_json())

    # heartbeats

    def due(self) -> bool:
        """Whether it is time for a line in the log; writes the heartbeat then."""
        if time.monotonic() - self._beat < BEAT:
            return False
        self._beat = time.monotonic()
        self.write()
        return self.seconds >= BEAT

    def write(self) -> None:
        path = _file(self.step.name, self.preset)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self.as_json() | {"at": time.time(), "pid": os.getpid()}))
            temporary.replace(path)
        except OSError:  # a full disk stops what is made, which then says so
            temporary.unlink(missing_ok=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        _file(self.step.name, self.preset).unlink(missing_ok=True)


def running(asset: str, preset: str) -> dict[str, Any] | None:
    """The last heartbeat of a step that some process makes: as_json(), and `at`, seconds since 1970."""
    try:
        return json.loads(_file(asset, preset).read_text())
    except (OSError, ValueError):
        return None


def words(told: dict[str, Any]) -> str:
    """`412 of 10,000 shards, 2 failed, 3.4 clips/s, 52 min left`."""
    parts = [f"{told['done']:,} of {told['shards']:,} shards" if told["shards"] else f"{told['share']:.0%}"]
    if told["failed"]:
        parts.append(f"{told['failed']:,} failed")
    if told["rate"]:
        parts.append(f"{told['rate']:.3g} {told['unit']}/s")
    if told["left"] is not None:
        parts.append(f"{duration(told['left'])} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _file(asset: str, preset: str) -> Any:
    return paths.work() / asset / f"running-{preset}.json"
