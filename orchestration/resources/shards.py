"""map_shards(): the same function over many shards, in this process or in a few."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from orchestration.errors import OrbitforgeError
from stages.sandbox import portable

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
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield (item, result or error) as they finish.

    One item or one worker: in this process. Otherwise spawned processes, one thread each, that die with their parent;
    `function` is then pickled by name. An item that raises, or that kills its worker, hurts no other. What `function`
    reports arrives at `report` in this process.
    """
    if engine != "local":
        raise OrbitforgeError(f"no engine {engine!r} for shards; choose 'local'")
    tell = report or (lambda item, event: None)
    items = list(items)
    if min(len(items), workers) > 1:
        yield from _pool(function, items, min(len(items), workers), tell)
        return
    for item in items:
        try:
            result = function(item, lambda event, item=item: tell(item, event))
        except Exception as error:
            yield item, error
        else:
            yield item, result


def _pool(
    function: Callable[[Any, Report], Any], items: list[Any], count: int, tell: Callable[[Any, dict[str, Any]], None]
) -> Iterator[tuple[Any, Any]]:
    waiting = deque(items)
    crew: dict[Connection, _Worker] = {}
    try:
        while waiting or crew:
            while waiting and len(crew) < count:
                worker = _Worker.hire(function)
                crew[worker.pipe] = worker
                worker.take(waiting.popleft())
            for pipe in wait(list(crew)):
                worker = crew[pipe]  # type: ignore[index]  # only our pipes were asked
                kind, value = worker.hear()
                if kind == "report":
                    tell(worker.item, value)
                    continue
                item = worker.item
                if waiting and kind != "died":
                    worker.take(waiting.popleft())
                else:
                    del crew[worker.pipe]
                    worker.dismiss()
                yield item, value
    finally:
        for worker in crew.values():
            worker.dismiss()


@dataclass
class _Worker:
    """A process of ours, and what it works on."""

    process: BaseProcess
    pipe: Connection
    item: Any = None

    @classmethod
    def hire(cls, function: Callable[[Any, Report], Any]) -> _Worker:
        spawn = multiprocessing.get_context("spawn")  # torch and polars do not survive a fork
        here, there = multiprocessing.Pipe()
        process = spawn.Process(target=_serve, args=(function, there), daemon=True)
        with _environment(OMP_NUM_THREADS="1"):  # read by numeric libraries when the process loads them
            process.start()
        there.close()
        return cls(process, here)  # pyright: ignore[reportArgumentType]  # a PipeConnection on Windows only

    def take(self, item: Any) -> None:
        self.item = item
        with suppress(BrokenPipeError):  # it died: hear() says so
            self.pipe.send(item)

    def hear(self) -> tuple[str, Any]:
        """("report", event), ("done", result), ("failed", error) or ("died", error)."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
            advice = "; often there was not enough memory: use fewer workers" if code == -signal.SIGKILL else ""
            return "died", OrbitforgeError(f"its worker process was {how}{advice}")

    def dismiss(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(function: Callable[[Any, Report], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        item = pipe.recv()
        try:
            answer = "done", function(item, lambda event: pipe.send(("report", event)))
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            answer = "failed", portable(error)
        pipe.send(answer)


def _die_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
