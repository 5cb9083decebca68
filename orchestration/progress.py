"""How far a step is: shards done of all, its rate and the time left, for terminals, logs and `orbitforge status`.

While a step runs, a thread of its own says the same to other processes every few seconds, whether the stage reports or
not: `.work/<asset>/running-<preset>.<host>.<pid>.json`, the heartbeat. What a killed process left is told as gone.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from orchestration import paths
from orchestration.lineage.current import Shard
from orchestration.processes import boot, born, lives
from orchestration.steps import Step

BEAT = 10.0
"""Seconds between two heartbeats, and between two lines in the log; what takes less says nothing."""
QUIET = 3 * BEAT
"""Without a report for so long, it is said; without a heartbeat, a process of another machine counts as gone."""
RUNNING, GONE = "running", "gone"
Item = TypeVar("Item")


@dataclass
class Progress:
    """`of` artifacts were asked for, of which `fresh` were there before. `doing` names a part of the work that is none
    of them (planning, checking, recording); rate and time left are then those of the part.

    As a context manager it keeps the heartbeat; `told` is called with it, from the heart's thread, once a step takes
    longer than a beat. `before` says how many seconds the step took the last time, if anybody knows: for the time left
    of parts that do not say how far they are.
    """

    step: Step
    preset: str
    of: int = 1
    fresh: int = 0
    made: int = 0
    failed: int = 0
    doing: str = ""
    before: float | None = None
    told: Callable[[Progress], None] = lambda watch: None
    began: float = field(default_factory=lambda: time.monotonic())
    _part: dict[Shard, tuple[float, float]] = field(default_factory=dict)  # shard -> share and items, while it is made
    _whole: tuple[float, float] = (0.0, 0.0)  # shards that are over, and their items
    _start: tuple[float, float, float] | None = None  # of what goes on from an earlier state: seconds, share, items
    _heard: float = field(default_factory=lambda: time.monotonic())
    _all: float = field(default_factory=lambda: time.monotonic())  # since when, whatever was done
    _lock: Any = field(default_factory=threading.RLock, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _heart: threading.Thread | None = None

    def hear(self, shard: Shard, event: dict[str, Any]) -> None:
        """A report of the stage: how many of its items (clips, objects, training steps) are done, of how many; under
        `doing` the part of its work that they belong to."""
        with self._lock:
            self._heard = time.monotonic()
            alone = self.step.shards is None
            doing = event.get("doing", "" if event.get("of") else self.doing)
            if alone and doing != self.doing:
                self._begin(doing)
            if event.get("of") and "step" in event:
                share = min(1.0, event["step"] / event["of"])
                if self._start is None and alone:
                    self._start = (self.seconds, share, event["step"])
                self._part[shard] = share, event["step"]

    def finish(self, shard: Shard, *, failed: bool = False) -> None:
        with self._lock:
            self._heard = time.monotonic()
            self.made += not failed
            self.failed += failed
            _, items = self._part.pop(shard, (1.0, 0.0))
            self._whole = self._whole[0] + 1, self._whole[1] + (0.0 if failed else items)

    def over(self, items: Sequence[Item], doing: str) -> Iterator[Item]:
        """The items one by one, as a part of the work of its own."""
        with self._lock:
            self._begin(doing)
            self._start = (0.0, 0.0, 0.0)
        for number, item in enumerate(items):
            yield item
            with self._lock:
                self._heard = time.monotonic()
                self._part[None] = (number + 1) / len(items), number + 1

    def now(self, doing: str, of: int | None = None, fresh: int = 0) -> None:
        """From here on something else is done; with `of`, that many artifacts are made."""
        with self._lock:
            self._begin(doing)
            self._heard = time.monotonic()
            if of is not None:
                self.of, self.fresh = of, fresh

    def _begin(self, doing: str) -> None:
        self.doing, self.began = doing, time.monotonic()
        self._part, self._start = {}, None

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
        """Of all that is to be done, 0 to 1; what was fresh before counts. Of a part, that part's."""
        if self.doing and None in self._part:
            return self._part[None][0]
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
        """`seconds` since the step began, `quiet` since its last report."""
        with self._lock:
            apart = bool(self.doing)
            return {
                "shards": self.of if self.step.shards and not apart else None,
                "done": self.fresh + self.made,
                "failed": self.failed,
                "share": round(self.share, 4) if not apart or None in self._part else None,
                "rate": self.rate,
                "unit": "" if apart else self.step.unit,
                "left": self.left,
                "as_before": self._as_before(),
                "doing": self.doing,
                "seconds": round(time.monotonic() - self._all, 1),
                "quiet": round(time.monotonic() - self._heard, 1),
            }

    def _as_before(self) -> float | None:
        """Seconds left if the step takes as long as the last time, which it may have done already."""
        left = (self.before or 0.0) - (time.monotonic() - self._all)
        return round(left, 1) if left > 0 and self.left is None else None

    def words(self) -> str:
        return words(self.as_json())

    # the heart

    def beat(self) -> None:
        """Write the heartbeat, and tell it once the step is a long one."""
        self.write()
        if time.monotonic() - self._all >= BEAT:
            self.told(self)

    def write(self) -> None:
        path = _file(self.step.name, self.preset)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self.as_json() | _here() | {"at": time.time(), "tick": time.monotonic()}))
            temporary.replace(path)
        except OSError:  # a full disk stops what is made, which then says so
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def __enter__(self) -> Progress:
        _forget_dead(self.step.name, self.preset)
        self.write()
        self._heart = threading.Thread(target=self._beats, name=f"heart of {self.step.name}", daemon=True)
        self._heart.start()
        return self

    def _beats(self) -> None:
        while not self._stop.wait(BEAT):
            self.beat()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._heart:
            self._heart.join()
        _file(self.step.name, self.preset).unlink(missing_ok=True)


def running(asset: str, preset: str) -> dict[str, Any] | None:
    """The last heartbeat of a process that makes the step: as_json(), `pid`, `host` and `born` of the process, `at`
    (seconds since 1970), `age` in seconds, and `state`: running, or gone where the process ended without a word.

    One that runs comes before those that are gone, then the newest.
    """
    heard = [told for file in _files(asset, preset) if (told := _read(file))]
    return min(heard, key=lambda told: (told["state"] != RUNNING, told["age"]), default=None)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(file.read_text())
        return told | {"age": round(_age(told), 1), "state": RUNNING if _lives(told) else GONE}
    except (OSError, ValueError, KeyError, TypeError):  # it ended meanwhile, or a person wrote there
        return None


def _age(told: dict[str, Any]) -> float:
    """By the clock that nobody sets where it is the same one, else by the calendar."""
    if told["boot"] and told["boot"] == _here()["boot"]:
        return max(0.0, time.monotonic() - told["tick"])
    return max(0.0, time.time() - told["at"])


def _lives(told: dict[str, Any]) -> bool:
    """Processes of this machine can be asked for; another machine's have to be heard of."""
    if told["host"] != platform.node():
        return _age(told) < QUIET
    return lives(told["pid"], told["born"])


def _forget_dead(asset: str, preset: str) -> None:
    """Remove what killed processes left; who makes the step now speaks for it."""
    for file in _files(asset, preset):
        if (told := _read(file)) is None or told["state"] == GONE:
            file.unlink(missing_ok=True)


def words(told: dict[str, Any]) -> str:
    """`412 of 10,000 shards, 2 failed, 3.4 clips/s, 52 min left`; of a part `checking, 40%, 900/s, 12 s left`."""
    parts = [told["doing"]] if told.get("doing") else []
    if told["shards"]:
        parts.append(f"{told['done']:,} of {told['shards']:,} shards")
    elif told["share"] is not None:
        parts.append(f"{told['share']:.0%}")
    if told["failed"]:
        parts.append(f"{told['failed']:,} failed")
    if told["rate"]:
        parts.append(f"{told['rate']:.3g}{' ' * bool(told['unit'])}{told['unit']}/s")
    if told["left"] is not None:
        parts.append(f"{duration(told['left'])} left")
    elif told.get("as_before"):
        parts.append(f"{duration(told['as_before'])} left if it takes as long as the last time")
    if told.get("quiet", 0) >= QUIET:
        parts.append(f"no report for {duration(told['quiet'])}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@cache
def _process(pid: int) -> dict[str, Any]:
    return {"pid": pid, "born": born(pid), "host": platform.node(), "boot": boot()}


def _here() -> dict[str, Any]:
    return _process(os.getpid())


def _file(asset: str, preset: str) -> Path:
    here = _here()
    return paths.work() / asset / f"running-{preset}.{here['host']}.{here['pid']}.json"


def _files(asset: str, preset: str) -> list[Path]:
    folder = paths.work() / asset
    return [file for file in folder.glob("running-*.json") if file.name.startswith(f"running-{preset}.")]
