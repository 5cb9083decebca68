"""Staleness, lineage, recording and audit at the size of a real corpus, beside Dagster and beside plain md5.

CPU seconds, each of a process of its own. Of staleness and lineage they are those of the work after imports and
the memory is that of the whole process; the audit is timed as a whole, imports included, as plain md5 is.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from orchestration.cli.bench.lineage_world import NAME, big_shards, fill, kept_environment, multiply, prepare
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

SHARDS, ROWS = 10_000, 1_000_000
AUDIT_FILES, AUDIT_SIZE = 64, 2**26
TIMES = 3
_FOLDER = "ORBITFORGE_BENCH_FOLDER"
"""Where the worlds are built, about 5 GB; by default the folder for temporary files."""


def measure(
    report: Callable[[str], None],
    *,
    shards: int = SHARDS,
    rows: int = ROWS,
    files: int = AUDIT_FILES,
    size: int = AUDIT_SIZE,
    times: int = TIMES,
) -> list[Row]:
    folders = tempfile.TemporaryDirectory(prefix="orbitforge-bench-", dir=os.environ.get(_FOLDER))
    with kept_environment(), folders as folder:
        return [
            *_audit(Path(folder) / "big", report, files, size, times),
            *_many(Path(folder) / "many", report, shards, rows, times),
        ]


def _many(root: Path, report: Callable[[str], None], shards: int, rows: int, times: int) -> list[Row]:
    report(f"{shards:,} shards in {root}")
    prepare(root)
    fill(shards)
    changed = str(root / "changed" / f"{NAME}.yaml")
    _child("stale", changed)  # hashes of code and source rows are kept from now on, as in any project
    small = _times(times, "stale", changed)
    seen = _times(times, "glb")
    report("telling Dagster of each")
    _child("tell_dagster")
    report("asking Dagster: this takes minutes")
    asked, read = _child("resolver", changed), _child("bulk")
    report("recording more shards")
    made = _child("record_shards")
    report(f"{rows:,} rows")
    multiply(rows)
    large = _times(times, "stale", changed)
    found = _times(times, "glb")
    here, there = f"{shards:,} shards", f"{rows:,} rows"
    return [
        Row(f"stale report, {here}, beside Dagster's resolver", "s", small["cpu"], asked["cpu"], 2.0),
        Row(f"stale report, {here}, beside Dagster's resolver", "MB", small["mb"], asked["mb"], 300),
        Row(f"artifacts called stale, {here}, beside Dagster's resolver", "count", small["stale"], asked["stale"]),
        Row(f"stale report, {here}, beside a bulk read of Dagster's events", "s", small["cpu"], read["cpu"], 2.0),
        Row(f"stale report, {there}", "s", large["cpu"], target=20.0),
        Row(f"stale report, {there}", "MB", large["mb"], target=300),
        Row(f"lineage of a GLB, {here}", "s", seen["cpu"], target=1.0),
        Row(f"lineage of a GLB, {there}", "s", found["cpu"]),
        Row(f"recording a shard, beside {made['before']:,}", "ms CPU", 1000 * made["cpu"] / made["shards"], target=50),
        Row(f"publishing a batch of {made['shards'] // made['batches']}", "s", made["batch"], target=2.0),
    ]


def _audit(root: Path, report: Callable[[str], None], files: int, size: int, times: int) -> list[Row]:
    """`ours` and `peer` are GB a CPU second; the target is 0.8 of the peer's."""
    report(f"{files} files of {size / 2**20:.0f} MiB in {root}")
    prepare(root)
    big_shards(files, size)
    _child("tell_dagster")
    subprocess.run([sys.executable, "-c", _PUBLISH], check=True)
    report("auditing them, and plain md5 in turn")
    command = [sys.executable, "-m", "orchestration.cli.main", "audit", "--workers", "2", "--json"]
    ours, peer = [], []
    for number in range(times + 1):
        seconds = _timed(command)
        plain = _timed([sys.executable, "-c", _PLAIN, str(root / "data" / NAME)])
        if number:  # the first reads the files into memory
            ours.append(seconds)
            peer.append(plain)
    total = files * size / 1e9
    speed, plain = total / median(ours), total / median(peer)
    return [
        Row(
            f"audit of {total:.1f} GB, 2 workers, whole process, beside plain md5",
            "GB/CPU s",
            speed,
            plain,
            0.8 * plain,
            at_least=True,
        )
    ]


_PLAIN = """
import hashlib, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def md5(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()

with ThreadPoolExecutor(2) as pool:
    print(len(list(pool.map(md5, [path for path in Path(sys.argv[1]).rglob("*") if path.is_file()]))))
"""
_PUBLISH = (
    "from orchestration import paths\nfrom orchestration.resources import store\nstore.publish({}, also=[paths.data()])"
)


def _times(times: int, name: str, preset: str | None = None) -> dict[str, Any]:
    """Medians of several processes."""
    told = [_child(name, preset) for _ in range(times)]
    return {key: median(each[key] for each in told) for key in told[0]}


def _child(name: str, preset: str | None = None) -> dict[str, Any]:
    environment = {**os.environ, **({"ORBITFORGE_PRESET": preset} if preset else {})}
    command = [sys.executable, "-m", "orchestration.cli.bench.lineage_work", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise OrbitforgeError(f"bench lineage, {name}: exit code {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _timed(command: list[str]) -> float:
    """CPU seconds of the whole process: user and system, imports included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise OrbitforgeError(f"bench lineage, {command[3]}: {done.stdout[-600:]}{done.stderr[-300:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
