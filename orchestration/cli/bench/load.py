"""A corpus of thousands of shards with tiny payloads: made, labelled, judged, resumed, and all that is asked about it.

Each step is the real command in a process of its own, measured after its imports with all its workers. It is no worse
than linear where a shard costs no more among many than among few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestration.cli.bench.lineage_world import kept_environment
from orchestration.cli.bench.load_chart import EACH
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SIZES = (1_000, 3_000, 10_000)
PER_SHARD = 50.0
"""Milliseconds of CPU of the orchestration for each shard that is made."""
LINEAR, FLAT = 1.15, 1.15
"""Cost of a shard, and memory, at the largest size over that at the one before; 15 % are noise."""
MAKING = ("making all shards but 100", "labelling by two workers")
MEMORY = (*MAKING, "resuming the first and the last 100", "the manifest", "a run with nothing to do")
EVERY = 0.2
"""Seconds between two looks at a process and its workers."""


@dataclass
class Step:
    """`cpu` seconds with workers and without imports; `peak` in MiB; `rss` in MiB a quarter into it and at its end."""

    seconds: float
    cpu: float
    peak: float
    rss: tuple[float, float]


def measure(report: Callable[[str], None], *, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    with kept_environment():
        return rows({shards: _world(shards, report) for shards in sizes})


def _world(shards: int, report: Callable[[str], None]) -> dict[str, Step]:
    from orchestration.cli.bench.load_work import ALONE, WORK
    from orchestration.cli.bench.load_world import build

    found: dict[str, Step] = {}
    with tempfile.TemporaryDirectory(
        prefix="orbitforge-load-", dir=os.environ.get("ORBITFORGE_BENCH_FOLDER")
    ) as folder:
        build(Path(folder), shards)
        for names in [*([name] for name in ALONE), [name for name in WORK if name not in ALONE]]:
            for name, step in measured([sys.executable, "-m", "orchestration.cli.bench.load_work", *names]).items():
                words = WORK[name][1]
                found[words] = step
                report(
                    f"{shards:,} shards, {words}: {step.seconds:.1f} s, {step.cpu:.1f} s of CPU "
                    f"({1000 * step.cpu / shards:.2f} ms a shard), {step.rss[0]:.0f} to {step.rss[1]:.0f} MiB, at most "
                    f"{step.peak:.0f}"
                )
    return found


def measured(command: list[str]) -> dict[str, Step]:
    """Run `load_work` and look at it, and at its workers, until it ends. Raises OrbitforgeError when a step fails."""
    looks: list[tuple[float, float, float]] = []  # when, CPU seconds of the workers so far, MiB
    workers: dict[int, float] = {}
    with tempfile.TemporaryFile("w+") as errors:
        process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        told: list[tuple[float, dict[str, Any]]] = []
        reader = threading.Thread(
            target=lambda: told.extend((time.monotonic(), json.loads(line)) for line in process.stdout)
        )
        reader.start()
        while process.poll() is None:
            with suppress(psutil.Error):
                size = process.memory_info().rss / 2**20
                for worker in process.children(recursive=True):
                    with suppress(psutil.Error):
                        workers[worker.pid] = sum(worker.cpu_times()[:2])
                looks.append((time.monotonic(), sum(workers.values()), size))
            time.sleep(EVERY)
        reader.join()
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["no word"])[-1]
            raise OrbitforgeError(f"bench load, {command[-1]}: exit code {process.returncode}: {last}")
    found: dict[str, Step] = {}
    for (since, ready), (until, done) in zip(told[::2], told[1::2], strict=True):
        during = [look for look in looks if since <= look[0] <= until and look[2]] or [(0.0, 0.0, done["peak"])]
        before = max((look[1] for look in looks if look[0] < since), default=0.0)
        own, theirs = done["cpu"] - ready["cpu"], max(look[1] for look in during) - before
        found[ready["name"]] = Step(
            done["seconds"], own + max(0.0, theirs), done["peak"], (during[len(during) // 4][2], during[-1][2])
        )
    return found


def rows(worlds: dict[int, dict[str, Step]]) -> list[Row]:
    """Of each size what a shard costs, then how the last two sizes compare, and memory."""
    few, many = sorted(worlds)[-2:]
    found: list[Row] = []
    for words in worlds[many]:
        for shards, world in worlds.items():
            step = world[words]
            target = PER_SHARD if shards == many and words in MAKING else None
            found.append(Row(f"{words}, {shards:,} shards", EACH, 1000 * step.cpu / shards, target=target))
            found.append(Row(f"{words}, {shards:,} shards", "s", step.seconds))
    for words, step in worlds[many].items():
        before = worlds[few][words]
        growth = step.cpu / many / (before.cpu / few)
        found.append(Row(f"{words}: a shard of {many:,} over one of {few:,}", "times CPU", growth, target=LINEAR))
        if words in MEMORY:
            work = f"{words}: peak memory at {many:,}, beside {few:,}"
            found.append(Row(work, "MB", step.peak, before.peak, FLAT * before.peak))
            work = f"{words}: memory at the end of {many:,}, beside a quarter of the way"
            found.append(Row(work, "MB", step.rss[1], step.rss[0], FLAT * step.rss[0]))
    return found
