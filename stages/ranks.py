"""One process a device: the ranks of a training on several devices of this machine.

Rank 0 is this process, so that reports, curves and weights stay here; the others are forked from it, since a training
is made of functions that nothing could send to a new process. Lightning would start the whole program again, which
here is Dagster's.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from torch import distributed

from stages.errors import InputError

Work = Callable[["Rank | None"], None]


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


def on_ranks(devices: int, work: Work) -> None:
    """Call `work` once for each device, each in a process of its own; with one device, here and without a rank.

    Raises what rank 0 raises, InputError when another rank failed, or when CUDA is in use here already.
    """
    if devices == 1:
        work(None)
        return
    if torch.cuda.is_initialized():
        raise InputError(f"{devices} devices need processes forked before CUDA is used; this process used it already")
    port = find_free_network_port()
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_other, args=(work, Rank(rank, port))) for rank in range(1, devices)]
    for process in others:
        process.start()
    try:
        work(Rank(0, port))
    except (RuntimeError, ConnectionError) as error:
        for process in others:
            process.join(5)
        failed = [rank for rank, process in enumerate(others, start=1) if process.exitcode]
        if failed and not isinstance(error, InputError):
            raise InputError(f"rank {failed[0]} of {devices} failed; its traceback is on standard error") from error
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        for process in others:
            process.join(30)
            if process.is_alive():
                process.kill()


def _other(work: Work, rank: Rank) -> None:
    code = 0
    try:
        work(rank)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing of the parent, its exit handlers and its files, is this process's to end
