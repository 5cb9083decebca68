"""A corpus of thousands of shards with tiny payloads: planned, listed, and resumed with half of it there.

Of each step of the real command, in a process of its own, after imports. The smaller world stands beside the
larger one as `peer`: a step that is no worse than linear is at most as many times slower as there are more shards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.cli.bench.lineage_world import kept_environment
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SMALL, LARGE = 1_000, 10_000
SECONDS = 10.0
"""What no step may take because of the number of shards."""
PER_SHARD = 50.0
"""Milliseconds of CPU of the orchestration for each shard that is made."""


def measure(report: Callable[[str], None], *, small: int = SMALL, large: int = LARGE) -> list[Row]:
    with kept_environment():
        few, many = (_world(count, report) for count in (small, large))
    beside = f"{large:,} shards, beside {small:,}"
    rows: list[Row] = []
    for step in many.steps:
        for number, unit in enumerate(("s", "s CPU")):
            if step != MADE:
                ours, peer = many.steps[step][number], few.steps[step][number]
                rows.append(Row(f"{step}, {beside}", unit, ours, peer, SECONDS))
    return [
        *rows,
        Row(f"{MADE}, {beside}", "ms CPU", many.steps[MADE][1], few.steps[MADE][1], PER_SHARD),
        Row(f"{MADE}, {beside}", "ms", many.steps[MADE][0], few.steps[MADE][0]),
        Row(f"memory of the largest process, {beside}", "MB", many.mb, few.mb),
    ]


MADE = "making a shard"


@dataclass
class _World:
    """Step -> seconds and CPU seconds; the largest process, in MiB."""

    steps: dict[str, tuple[float, float]] = field(default_factory=dict)
    mb: float = 0.0


def _world(shards: int, report: Callable[[str], None]) -> _World:
    from orchestration.cli.bench.load_work import WORK, build

    found = _World()
    with tempfile.TemporaryDirectory(
        prefix="orbitforge-load-", dir=os.environ.get("ORBITFORGE_BENCH_FOLDER")
    ) as folder:
        report(f"{shards:,} shards, half of them made")
        build(Path(folder), shards)
        for work in WORK:
            told = _child(work)
            found.steps |= {step: tuple(seconds) for step, seconds in told["steps"].items()}
            found.mb = max(found.mb, told["mb"])
            report("  ".join(f"{step} {seconds:.1f} s" for step, (seconds, _) in told["steps"].items() if step != MADE))
    return found


def _child(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "orchestration.cli.bench.load_work", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise OrbitforgeError(f"bench load, {name}: exit code {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])
