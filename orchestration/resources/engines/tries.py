"""What an engine has still to do, and whether an item that failed comes again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestration.errors import OrbitforgeError
from stages.errors import InputError

Report = Callable[[dict[str, Any]], None]
Function = Callable[[Any, Report], Any]


class WorkerDiedError(OrbitforgeError):
    """The process or the machine that worked on a shard is gone; the shard itself may be good."""


@dataclass
class Try:
    """One item, with the tries that are left after this one."""

    item: Any
    left: int


class Tries:
    """The items that wait; what failed waits behind the others until its retries are used up."""

    def __init__(self, items: Iterable[Any], retries: int, tell: Callable[[Any, dict[str, Any]], None]) -> None:
        self.waiting = deque(Try(item, retries) for item in items)
        self.tell = tell

    def outcome(self, one: Try, value: Any) -> Iterator[tuple[Any, Any]]:
        """The item with its result or its last error; nothing when it will be tried again."""
        if isinstance(value, Exception) and one.left and _may_pass(value):
            self.waiting.append(Try(one.item, one.left - 1))
            self.tell(one.item, {"message": f"failed, will be tried again: {' '.join(str(value).split())}"})
        else:
            yield one.item, value


def _may_pass(error: Exception) -> bool:
    """Whether another try may end otherwise: what a person has to put right stays as it is."""
    return isinstance(error, WorkerDiedError) or not isinstance(error, OrbitforgeError | InputError)
