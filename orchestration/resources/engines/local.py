"""Shards in a few processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from orchestration.errors import ENOUGH_MEMORY
from orchestration.resources.engines.tries import Function, Tries, Try, WorkerDiedError
from stages.sandbox import portable

Start = SpawnContext | ForkServerContext


def run(function: Function, tries: Tries, count: int, models: bool = False) -> Iterator[tuple[Any, Any]]:
    """`count` processes that end with this one; with `models` each sees one GPU, in turn."""
    waiting, crew = tries.waiting, dict[Connection, _Worker]()
    gpus = _gpus() if models else []
    start = _start(models, gpus)
    try:
        while waiting or crew:
            while waiting and len(crew) < count:
                slot = min(set(range(count)) - {worker.slot for worker in crew.values()})
                worker = _Worker.hire(start, function, slot, gpus)
                crew[worker.pipe] = worker
                worker.take(waiting.popleft())
            for pipe in wait(list(crew)):
                worker = crew[pipe]  # type: ignore[index]  # only our pipes were asked
                kind, value = worker.hear()
                if kind == "report":
                    tries.tell(worker.on.item, value)
                    continue
                outcome = list(tries.outcome(worker.on, value))
                if waiting and kind != "died":
                    worker.take(waiting.popleft())
                else:
                    del crew[worker.pipe]
                    worker.dismiss()
                yield from outcome
    finally:
        for worker in crew.values():
            worker.dismiss()


@dataclass
class _Worker:
    """A process of ours, and what it works on."""

    process: BaseProcess
    pipe: Connection
    slot: int
    on: Try

    @classmethod
    def hire(cls, start: Start, function: Function, slot: int, gpus: Sequence[str]) -> _Worker:
        here, there = multiprocessing.Pipe()
        device = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
        with _environment(OMP_NUM_THREADS="1", **device):  # read by numeric libraries when the process loads them
            process = start.Process(target=_serve, args=(function, there, dict(os.environ)), daemon=True)
            process.start()
        there.close()
        return cls(process, here, slot, Try(None, 0))  # pyright: ignore[reportArgumentType]  # a PipeConnection on Windows only

    def take(self, one: Try) -> None:
        self.on = one
        with suppress(BrokenPipeError):  # it died: hear() says so
            self.pipe.send(one.item)

    def hear(self) -> tuple[str, Any]:
        """("report", event), ("done", result), ("failed", error) or ("died", error)."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
            # libraries that get no memory end their process in many ways: abort, exit, a null pointer
            return "died", WorkerDiedError(
                f"its worker process was {how}; most often there is not enough memory: {ENOUGH_MEMORY}"
            )

    def dismiss(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _start(models: bool, gpus: Sequence[str]) -> Start:
    """How processes come to be. This one cannot be forked: torch's and polars' threads would not survive.

    Those that run models without a GPU are forked from a process that has imported what they need and nothing more;
    CUDA wants processes of its own.
    """
    if not models or gpus or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["orchestration.resources.engines.preloaded"])
    return start


def _serve(function: Function, pipe: Connection, environment: dict[str, str]) -> None:
    os.environ.clear()  # a forked process has that of the time when the server started
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is gone, and has nobody to tell
        while True:
            item = pipe.recv()
            try:
                answer = "done", function(item, lambda event: pipe.send(("report", event)))
            except BaseException as error:  # polars' panics are none of Exception
                error.add_note("".join(traceback.format_exception(error)))
                answer = "failed", portable(error if isinstance(error, Exception) else RuntimeError(str(error)))
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


def _gpus() -> list[str]:
    """The names of the GPUs that this process may use, found without a library that would take them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
