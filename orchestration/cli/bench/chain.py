"""The chain from empty, in a folder of its own: seconds and peak memory by step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil

from orchestration.cli.bench.registry import Row
from orchestration.cli.sample import fetch_sample
from orchestration.errors import OrbitforgeError
from orchestration.shipping import fresh_clone

TARGET_SECONDS, TARGET_GIB = 600.0, 6.0
"""Of `make run` from a filled environment, tiny preset, two cores."""


def measure(report: Callable[[str], None]) -> list[Row]:
    """One run: the seconds of each step are those in the ledger, the memory is that of the process and its children."""
    from rich.console import Console

    fetch_sample(Console(stderr=True))
    with tempfile.TemporaryDirectory(prefix="orbitforge-bench-") as folder:
        root = fresh_clone(Path(folder))
        report(f"running the chain in {root}")
        environment = {**os.environ, "ORBITFORGE_ROOT": str(root)}
        began = time.perf_counter()
        command = [sys.executable, "-m", "orchestration.cli.main", "run"]
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        memory = _Memory(run.pid)
        if run.wait():
            raise OrbitforgeError(f"the chain failed with exit code {run.returncode}; its last lines say why")
        seconds = time.perf_counter() - began
        steps = _steps(root, memory)
    nano_or_tiny = os.environ.get("ORBITFORGE_PRESET", "tiny") in ("nano", "tiny")
    return [
        *steps,
        Row("whole chain", "s", seconds, target=TARGET_SECONDS if nano_or_tiny else None),
        Row("whole chain", "GiB", memory.peak(), target=TARGET_GIB if nano_or_tiny else None),
    ]


def _steps(root: Path, memory: _Memory) -> list[Row]:
    rows = pl.read_parquet(root / "data" / "ledger" / "*.parquet").filter(
        (pl.col("kind") == "made") & (pl.col("preset") == os.environ.get("ORBITFORGE_PRESET", "tiny"))
    )
    times = pl.col("started", "ended").str.to_datetime(time_zone="UTC").dt.epoch("ms") / 1000
    spans = (
        rows.with_columns(times)
        .group_by("asset")
        .agg(pl.col("seconds").sum(), pl.col("started").min(), pl.col("ended").max())
        .sort("ended")
    )
    return [
        Row(asset, unit, value)
        for asset, seconds, first, last in spans.iter_rows()
        for unit, value in (("s", seconds), ("GiB", memory.peak(first, last)))
    ]


class _Memory:
    """The memory of a process and its children, twice a second, as GiB by wall-clock time."""

    def __init__(self, pid: int) -> None:
        self._seen: list[tuple[float, float]] = []
        threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True).start()

    def peak(self, first: float = 0.0, last: float = float("inf")) -> float:
        # half a second more on both sides: a short step may lie between two looks
        return max((used for when, used in self._seen if first - 0.5 <= when <= last + 0.5), default=float("nan"))

    def _watch(self, process: psutil.Process) -> None:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            try:
                family = [process, *process.children(recursive=True)]
                self._seen.append((time.time(), sum(_rss(member) for member in family) / 2**30))
            except psutil.NoSuchProcess:
                return
            time.sleep(0.5)


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
