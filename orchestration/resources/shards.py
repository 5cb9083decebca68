"""map_shards(): the same function over many shards, in this process, in a few, or as tasks of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from orchestration.resources.engines import local
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Report, Tries

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_shards(
    function: Callable[[Item, Report], Result],
    items: Iterable[Item],
    engine: EngineConfig | None = None,
    *,
    models: bool = False,
    report: Callable[[Item, dict[str, Any]], None] | None = None,
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result or error) as they finish.

    Local, one item or one worker: in this process. Otherwise processes of one thread each that end with this one;
    `function` is then pickled by name, and with `models` each has a GPU to itself where there are enough. On Ray every
    node has to see the project's folder at the same path: shards are read and written there, not sent.

    An item that raises, or that kills its worker, hurts no other; it is tried again `engine.retries` times, behind the
    others, unless a person has to put something right (OrbitforgeError, InputError). What `function` reports arrives
    at `report` in this process.
    """
    engine = engine or EngineConfig.model_validate({})
    tries = Tries(items, engine.retries, report or (lambda item, event: None))
    if engine.name == "ray":
        from orchestration.resources.engines import on_ray

        return on_ray.run(function, tries, engine, models)
    workers = min(len(tries.waiting), engine.workers or min(2, os.cpu_count() or 1))
    return local.run(function, tries, workers, models) if workers > 1 else _here(function, tries)


def _here(function: Callable[[Any, Report], Any], tries: Tries) -> Iterator[tuple[Any, Any]]:
    while tries.waiting:
        one = tries.waiting.popleft()
        try:
            value = function(one.item, lambda event, item=one.item: tries.tell(item, event))
        except Exception as error:
            value = error
        yield from tries.outcome(one, value)
