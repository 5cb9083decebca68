"""Telling Dagster many events at once: one by one, SQLite takes two connections and two flushes of the disk each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestration import paths
from orchestration.locks import locked

if TYPE_CHECKING:
    import dagster as dg

TOGETHER = 500
"""Events of one transaction; other processes that write wait for it, half a minute at most."""


@contextmanager
def telling() -> Iterator[None]:
    """Asking Dagster what it lacks and telling it: one process at a time, or it would be told twice. Two that add the
    same partition at once even fail in Dagster 1.13."""
    with locked(paths.work() / "dagster.lock"):
        yield


def tell(
    instance: dg.DagsterInstance, events: Iterable[Any], report: Callable[[int], None] = lambda count: None
) -> int:
    """Report runless events; killed in between, whole batches are there or not. Returns how many there were; `report`
    hears how many so far."""
    count = 0
    left = iter(events)
    while batch := list(islice(left, TOGETHER)):
        with one_transaction(instance):
            for event in batch:
                instance.report_runless_asset_event(event)
        count += len(batch)
        report(count)
    return count


@contextmanager
def planned_together(instance: dg.DagsterInstance) -> Iterator[None]:
    """A run that is created inside says in few transactions what it is to make: an event for each of its shards."""
    create = instance.create_run_for_job

    def create_together(*arguments: Any, **named: Any) -> Any:
        with one_transaction(instance):
            return create(*arguments, **named)

    instance.create_run_for_job = create_together
    try:
        yield
    finally:
        del instance.create_run_for_job


@contextmanager
def one_transaction(instance: dg.DagsterInstance) -> Iterator[None]:
    """Dagster 1.13 stores an event at a time; inside, its SQLite storage keeps its connections. Others are as ever.

    After so many uses the transaction ends and another begins, so that no other process waits for long.
    """
    from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

    storage: Any = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    connect, lock = storage._connect, storage._db_lock
    with ExitStack() as stack:
        held: dict[str, Any] = {}
        uses = depth = 0

        @contextmanager
        def reuse(shard: str) -> Iterator[Any]:
            nonlocal uses, depth
            if depth == 0 and uses >= 2 * TOGETHER:  # an event uses two
                stack.close()
                held.clear()
                uses = 0
            if shard not in held:
                held[shard] = stack.enter_context(connect(shard))
            uses, depth = uses + 1, depth + 1
            try:
                yield held[shard]
            finally:
                depth -= 1

        storage._db_lock = threading.RLock()  # two databases are open at once  # pyright: ignore
        storage._connect = reuse  # pyright: ignore
        try:
            yield
        finally:
            del storage._connect
            storage._db_lock = lock
