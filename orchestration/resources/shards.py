"""map_shards(): the same function over many shards, in this process or in a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Report = Callable[[dict[str, Any]], None]


def map_shards(
    function: Callable[[Item, Report], Result],
    items: Iterable[Item],
    *,
    engine: str = "local",
    workers: int = 2,
    report: Callable[[Item, dict[str, Any]], None] | None = None,
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Yield (item, result or error) as they finish.

    One item or one worker: in this process. Otherwise spawned processes, one thread each, that die with their parent.
    An item that raises, or that kills its worker, hurts no other.
    """
    raise NotImplementedError
