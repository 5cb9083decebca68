"""What an engine has still to do, and whether an item that failed comes again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from orchestration.errors import MachineError, OrbitforgeError, in_plain_words
from orchestration.steps import Report
from stages.errors import InputError

Function = Callable[[Any, Report], Any]


class WorkerDiedError(OrbitforgeError):
    """The process or the machine that worked on a shard is gone; the shard itself may be good."""


@dataclass
class Try:
    """One item, with the tries that are left after this one, and the machines on which it failed."""

    item: Any
    left: int
    failed_on: frozenset[str] = frozenset()


class Tries:
    """The items that wait; what failed waits behind the others until its retries are used up."""

    def __init__(self, items: Iterable[Any], retries: int, tell: Callable[[Any, dict[str, Any]], None]) -> None:
        self.waiting = deque(Try(item, retries) for item in items)
        self.tell = tell

    def outcome(
        self, one: Try, value: Any, on: str | None = None, others: Iterable[str] = ()
    ) -> Iterator[tuple[Any, Any]]:
        """The item with its result or its last error; nothing when it will be tried again.

        `on` is the machine it was tried on, None where it did not begin; `others` are those that could take it as well:
        what one machine cannot do goes to another one, and costs no retry.
        """
        if not isinstance(value, Exception):
            yield one.item, value
            return
        known = frozenset((on,)) if on else frozenset[str]()
        elsewhere = known and not known & one.failed_on and set(others) - one.failed_on - known
        if elsewhere and _of_the_machine(value):
            left = one.left
        elif one.left and _may_pass(value):
            left = one.left - 1
        else:
            yield one.item, value
            return
        self.waiting.append(replace(one, left=left, failed_on=one.failed_on | known))
        self.tell(one.item, {"message": f"failed, will be tried again: {' '.join(str(value).split())}"})


def _may_pass(error: Exception) -> bool:
    """Whether another try may end otherwise: what a person has to put right stays as it is."""
    return isinstance(error, WorkerDiedError) or not isinstance(error, OrbitforgeError | InputError)


def _of_the_machine(error: Exception) -> bool:
    return isinstance(error, MachineError) or in_plain_words(error) is not None
