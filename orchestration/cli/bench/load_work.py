"""What `bench load` measures, each in a process of its own: `python -m ... NAME` prints {step: seconds}."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from orchestration import paths, pipeline
from orchestration.cli.bench.lineage_work import peak
from orchestration.cli.bench.lineage_world import made, observed, prepare, write_sources
from orchestration.cli.bench.load import MADE, MEMORY
from orchestration.lineage.ledger import Ledger

OBJECTS = 10
ASSET = "synthetic_corpus"


def build(root: Path, shards: int) -> None:
    """A project whose corpus has `shards` shards of one prompt; the first half is made, with all that it reads."""
    prepare(root)
    write_sources(OBJECTS, shards)
    here = pipeline.current()
    for source in here.sources:
        Ledger().append(*observed(here, source.name))
    for step in here.steps:
        if step.name == ASSET:
            Ledger().append(*made(here, step, only=here.shards(step)[: shards // 2], contents=_payload))
            return
        Ledger().append(*made(here, step))


def _payload(shard: str | None) -> dict[str, bytes]:
    """A shard whose one prompt gave no clip: as small as a shard can be, and good to every check."""
    import polars as pl

    from stages.shards import write_shard

    folder = paths.work() / "payload"
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "clips.tar", [])
    table = io.BytesIO()
    pl.DataFrame({"id": [shard], "reason": ["a bench"]}).write_parquet(table)
    return {"clips.tar": (folder / "clips.tar").read_bytes(), "quarantine.parquet": table.getvalue()}


def _make(work: Any) -> None:
    for name, content in _payload(work.shard).items():
        (work.output / name).write_bytes(content)


class Clock:
    """Seconds spent inside functions that are replaced by timed ones."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def time(self, name: str, owner: Any, attribute: str) -> None:
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.step(name):
                return function(*arguments, **named)

        setattr(owner, attribute, timed)

    def step(self, name: str) -> Any:
        return _Step(self.found, name)


class _Step:
    def __init__(self, found: dict[str, float], name: str) -> None:
        self.found, self.name = found, name

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.found[self.name] = self.found.get(self.name, 0.0) + time.perf_counter() - self.began


def plan() -> dict[str, float]:
    from orchestration.cli.plan import plan_command

    return _told("plan", lambda: plan_command(rates=None, measure=False, as_json=False))


def dry_run() -> dict[str, float]:
    from orchestration.cli.run import run_command

    return _told("run --dry-run", lambda: run_command(select=ASSET, dry_run=True))


def status() -> dict[str, float]:
    return _status("status --why, half made")


def status_after() -> dict[str, float]:
    return _status("status --why, all made")


def _status(name: str) -> dict[str, float]:
    from orchestration.cli.status import status_command

    return _told(name, lambda: status_command(why=True, as_json=False))


def run() -> dict[str, float]:
    """The second half, by the real command with a stage that does nothing, in this process."""
    from orchestration import chain
    from orchestration.assets import synthetic_corpus
    from orchestration.cli import run as command

    os.environ["ORBITFORGE_WORKERS"] = "1"
    clock, first, last, cpu = Clock(), list[float](), list[float](), list[float]()

    def make(work: Any) -> None:
        _make(work)
        first[:] = first or [time.perf_counter()]
        last[:], cpu[1:] = [time.perf_counter()], [time.process_time()]
        cpu[:1] = cpu[:1] or [time.process_time()]
        made.append(work.shard)

    made: list[str] = []
    synthetic_corpus.make = make
    clock.time("resume: reconciling", command, "reconcile")
    clock.time("resume: staleness, each time", command, "status")
    clock.time("resume: telling Dagster of sources", chain, "observe_sources")
    began = time.perf_counter()
    _quietly(lambda: command.run_command(select=ASSET))
    ended = time.perf_counter()
    return clock.found | {
        "resume: until the first missing shard": first[0] - began,
        "resume: after the last shard (publishing, checks)": ended - last[0],
        MADE: 1000 * (cpu[1] - cpu[0]) / max(1, len(made) - 1),
        MEMORY: peak(),
    }


def run_again() -> dict[str, float]:
    from orchestration.cli.run import run_command

    return _told("run with nothing to do", lambda: run_command(select=ASSET))


def _told(name: str, work: Callable[[], None]) -> dict[str, float]:
    began = time.perf_counter()
    _quietly(work)
    return {name: time.perf_counter() - began}


def _quietly(work: Callable[[], None]) -> None:
    with redirect_stdout(io.StringIO()):
        work()


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
