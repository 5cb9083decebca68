"""One process a device: the ranks of a training on several devices of this machine.

All are forked from this process, which itself trains nothing: a training is made of functions that nothing could send
to a new process, and threads that torch starts when it trains do not survive a fork. Lightning would start the whole
program again, which here is Dagster's.
"""

from __future__ import annotations

import multiprocessing
import os
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
        if told in ready:
            try:
                kind, value = told.recv()
            except EOFError:
                raise _failure(failed or 0, len(ranks)) from None
            if kind == _EVENT:
                report(value)
            elif kind == _RESULT:
                return value
            elif failed is None or isinstance(value, InputError):
                raise value
            else:  # rank 0 lost the one that failed
                raise _failure(failed, len(ranks)) from value
        elif not ready:
            for process in ranks:
                process.kill()
            raise _failure(failed or 0, len(ranks))
        for sentinel in [s for s in ready if s in others]:
            rank = others.pop(sentinel)
            ranks[rank].join()
            failed = rank if ranks[rank].exitcode and failed is None else failed


def _failure(rank: int, devices: int) -> InputError:
    return InputError(f"rank {rank} of {devices} failed; its traceback is on standard error")


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
