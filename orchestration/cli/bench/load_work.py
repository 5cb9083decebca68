"""What `bench load` measures, each in a process of its own: `python -m ... NAME` prints {"steps": {step: [seconds,
CPU seconds]}, "mb": peak}."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from orchestration import paths, pipeline
from orchestration.cli.bench.lineage_work import peak
from orchestration.cli.bench.lineage_world import made, observed, prepare, write_sources
from orchestration.cli.bench.load import MADE
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
    """Seconds, and of them those of CPU, spent in steps and in functions that are replaced by timed ones."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), time.process_time()
        yield
        self.add(name, time.perf_counter() - began, time.process_time() - cpu)

    def add(self, name: str, seconds: float, cpu: float) -> None:
        before = self.found.get(name, (0.0, 0.0))
        self.found[name] = before[0] + seconds, before[1] + cpu

    def watch(self, name: str, owner: Any, attribute: str) -> None:
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.step(name):
                return function(*arguments, **named)

        setattr(owner, attribute, timed)


def plan(clock: Clock) -> None:
    from orchestration.cli.plan import plan_command

    with clock.step("plan"):
        plan_command(rates=None, measure=False, as_json=False)


def dry_run(clock: Clock) -> None:
    from orchestration.cli.run import run_command

    with clock.step("run --dry-run"):
        run_command(select=ASSET, dry_run=True)


def status(clock: Clock) -> None:
    from orchestration.cli.status import status_command

    with clock.step("status --why"):
        status_command(why=True, as_json=False)


def first(clock: Clock) -> None:
    """Resumed beside databases that are new, as in a fresh clone: DVC and Dagster are told of everything."""
    _resume(clock, "first resume", 100)


def again(clock: Clock) -> None:
    _resume(clock, "resume", 100)


def _resume(clock: Clock, name: str, limit: int) -> None:
    """The first missing shards, by the real command with a stage that does nothing, in this process."""
    from orchestration import chain
    from orchestration.assets import synthetic_corpus
    from orchestration.cli import run as command

    os.environ["ORBITFORGE_WORKERS"] = "1"
    times: list[tuple[float, float]] = [_now()]

    def make(work: Any) -> None:
        _make(work)
        times.append(_now())

    synthetic_corpus.make = make
    clock.watch(f"{name}: reconciling", command, "reconcile")
    clock.watch(f"{name}: telling Dagster of sources", chain, "observe_sources")
    command.run_command(select=ASSET, limit=limit)
    times.append(_now())
    began, started, *_, last, ended = times
    clock.add(f"{name}: until the first missing shard", started[0] - began[0], started[1] - began[1])
    clock.add(f"{name}: publishing and checks after the last", ended[0] - last[0], ended[1] - last[1])
    clock.add(MADE, *(1000 * (to - since) / (len(times) - 3) for since, to in zip(started, last, strict=True)))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


WORK: dict[str, Callable[[Clock], None]] = {work.__name__: work for work in (plan, dry_run, status, first, again)}


def main(name: str) -> None:
    import dvc.repo  # noqa: F401  # what is imported costs the same for any number of shards
    import mlflow  # noqa: F401

    import models.flops  # noqa: F401
    import orchestration.definitions  # noqa: F401

    clock = Clock()
    with redirect_stdout(io.StringIO()):
        WORK[name](clock)
    print(json.dumps({"steps": clock.found, "mb": peak()}))


if __name__ == "__main__":
    main(sys.argv[1])
