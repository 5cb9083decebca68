"""One process a device: the ranks of a training on several devices of this machine.

All are forked from this process, which itself trains nothing: a training is made of functions that nothing could send
to a new process, and threads that torch starts when it trains do not survive a fork. Lightning would start the whole
program again, which here is Dagster's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port

from stages.errors import InputError
from stages.sandbox import die_with_parent, portable

Report = Callable[[dict[str, Any]], None]
Work = Callable[["Rank | None", Report], Any]
_EVENT, _RESULT, _ERROR = "event", "result", "error"
_PATIENCE = 15
"""Seconds that ranks have to end once one of them has."""


class Rank(LightningEnvironment):
    """Where a process stands among those of a training; they talk over loopback."""

    def __init__(self, rank: int, port: int) -> None:
        super().__init__()
        self.rank, self.port = rank, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.port

    def local_rank(self) -> int:
        return self.rank

    def teardown(self) -> None:
        pass


def on_ranks(devices: int, work: Work, report: Report) -> Any:
    """Call `work(rank, report)` once for each device, each in a process of its own; with one, here and without a rank.

    Returns what rank 0 returns, raises what it raises; what ranks report comes through. Raises InputError when another
    rank failed, or when CUDA is in use here already.
    """
    if devices == 1:
        return work(None, report)
    if torch.cuda.is_initialized():
        raise InputError(f"{devices} devices need processes forked before CUDA is used; this process used it already")
    port = find_free_network_port()
    context = multiprocessing.get_context("fork")
    told, teller = context.Pipe(duplex=False)
    ranks = [context.Process(target=_rank, args=(work, Rank(rank, port), teller)) for rank in range(devices)]
    for process in ranks:
        process.start()
    teller.close()
    try:
        return _outcome(told, ranks, report)
    finally:
        for process in ranks:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()


def _outcome(told: Any, ranks: list[Any], report: Report) -> Any:
    others = {process.sentinel: rank for rank, process in enumerate(ranks) if rank}
    failed = None
    while True:
        ready = wait([told, *others], _PATIENCE if failed is not None else None)
        for sentinel in [s for s in ready if s in others]:
            rank = others.pop(sentinel)
            ranks[rank].join()
            failed = rank if ranks[rank].exitcode and failed is None else failed
        if told in ready:
            try:
                kind, value = told.recv()
            except EOFError:
                raise _failure(failed or 0, ranks) from None
            if kind == _EVENT:
                report(value)
            elif kind == _RESULT:
                return value
            elif isinstance(value, InputError):
                raise value
            elif (lost := failed if failed is not None else _killed(others, ranks)) is not None:
                raise _failure(lost, ranks) from value  # rank 0 lost the one that failed
            else:
                raise value
        elif not ready:
            for process in ranks:
                process.kill()
            raise _failure(failed or 0, ranks)


def _killed(others: dict[int, int], ranks: list[Any]) -> int | None:
    """The rank that a signal has ended: rank 0 may tell that it is lost before the system does."""
    wait(list(others), 1)
    for rank in others.values():
        ranks[rank].join(0.1)  # its files are closed before the system tells how it ended
    return next((rank for rank in others.values() if (ranks[rank].exitcode or 0) < 0), None)


def _failure(rank: int, ranks: list[Any]) -> InputError:
    ranks[rank].join(1)
    code = ranks[rank].exitcode or 0
    if code >= 0:
        return InputError(f"rank {rank} of {len(ranks)} failed; its traceback is on standard error")
    advice = " (often there was not enough memory)" if code == -signal.SIGKILL else ""
    return InputError(
        f"rank {rank} of {len(ranks)} was killed by signal {-code}{advice}; run again to go on from the last resume "
        "state"
    )


def _rank(work: Work, rank: Rank, teller: Connection) -> None:
    code = 0
    die_with_parent()
    if rank.rank:
        teller.close()
    try:
        result = work(rank, (lambda event: teller.send((_EVENT, event))) if rank.rank == 0 else lambda event: None)
        if rank.rank == 0:
            teller.send((_RESULT, result))
    except BaseException as error:
        if rank.rank == 0:
            teller.send((_ERROR, portable(error if isinstance(error, Exception) else RuntimeError(repr(error)))))
        else:
            traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing of the parent, its exit handlers and its files, is this process's to end
