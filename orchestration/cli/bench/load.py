"""A corpus of thousands of shards with tiny payloads: planned, listed, and resumed with half of it there.

Seconds on the clock, of each step of the real command in a process of its own. The smaller world stands beside the
larger one as `peer`: a step that is no worse than linear is at most as many times slower as there are more shards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestration import pipeline
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SMALL, LARGE = 1_000, 10_000
SECONDS = 10.0
"""What no step may take because of the number of shards."""
PER_SHARD = 50.0
"""Milliseconds of CPU of the orchestration for each shard that is made."""


def measure(report: Callable[[str], None], *, small: int = SMALL, large: int = LARGE) -> list[Row]:
    before = {name: os.environ.get(name) for name in ("ORBITFORGE_ROOT", "ORBITFORGE_PRESET")}
    try:
        few, many = (_world(count, report) for count in (small, large))
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in (name for name, value in before.items() if value is None):
            os.environ.pop(name, None)
        pipeline.current.cache_clear()
    rows = [
        Row(f"{step}, {large:,} shards, beside {small:,}", "s", many[step], few[step], SECONDS)
        for step in many
        if step not in (MADE, MEMORY)
    ]
    return [
        *rows,
        Row(f"{MADE}, {large:,} shards, beside {small:,}", "ms CPU", many[MADE], few[MADE], PER_SHARD),
        Row(f"{MEMORY}, {large:,} shards, beside {small:,}", "MB", many[MEMORY], few[MEMORY]),
    ]


MADE, MEMORY = "making a shard", "peak memory"


def _world(shards: int, report: Callable[[str], None]) -> dict[str, float]:
    """Step -> seconds."""
    from orchestration.cli.bench.load_work import build

    with tempfile.TemporaryDirectory(
        prefix="orbitforge-load-", dir=os.environ.get("ORBITFORGE_BENCH_FOLDER")
    ) as folder:
        report(f"{shards:,} shards, half of them made")
        build(Path(folder), shards)
        found: dict[str, float] = {}
        for work in ("plan", "dry_run", "status", "run", "status_after", "run_again"):
            report(f"{work.replace('_', ' ')}")
            found |= _child(work)
        return found


def _child(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "orchestration.cli.bench.load_work", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise OrbitforgeError(f"bench load, {name}: exit code {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])
