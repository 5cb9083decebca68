"""What `bench lineage` measures, each in a process of its own: `python -m ... NAME` prints one JSON object.

`seconds` and `cpu` are those of the work, after imports; `mb` is the largest resident set of the whole process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from orchestration import paths, pipeline


@contextmanager
def _measured(facts: dict[str, Any]) -> Iterator[None]:
    began, cpu = time.perf_counter(), time.process_time()
    yield
    facts["seconds"], facts["cpu"] = time.perf_counter() - began, time.process_time() - cpu
    facts["mb"] = peak()


def peak() -> float:
    """MiB. What getrusage says begins with the parent's peak; the kernel's own figure is better where it is given."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stale(facts: dict[str, Any]) -> None:
    """The whole report, with reasons, as `orbitforge status --why` would print it."""
    from orchestration.cli.status import status_text
    from orchestration.lineage.staleness import status

    here = pipeline.current()
    with _measured(facts):
        states = status(here)
        text = status_text(states, "", why=True).plain
    facts["stale"] = sum(shard.status == "stale" and bool(shard.why) for state in states for shard in state.shards)
    facts["lines"] = text.count("\n")


def glb(facts: dict[str, Any]) -> None:
    """From a GLB back to everything."""
    from orchestration.lineage.current import Current
    from orchestration.lineage.exports.tree import tree
    from orchestration.lineage.find import find_row
    from orchestration.lineage.record import record

    here = pipeline.current()
    file = next((paths.data() / here.preset.name / "lrm_finetuned").glob("*.glb"))
    with _measured(facts):
        current = Current(here)
        known = record(current, find_row(current, str(file)))
        tree(known)
    facts["rows"], facts["objects"] = len(known.rows), len(known.objects)


def tell_dagster(facts: dict[str, Any]) -> None:
    """One event for each artifact, as a run would have told them."""
    from orchestration.home import open_instance
    from orchestration.lineage.current import Current
    from orchestration.observe import observe_sources
    from orchestration.publish import event

    here = pipeline.current()
    current = Current(here)
    with open_instance() as instance, _measured(facts):
        observe_sources(instance, here)
        for step in here.steps:
            for shard in here.shards(step):
                if row := current.row(step.name, shard):
                    instance.report_runless_asset_event(event(row, {}, code=row.code))


def resolver(facts: dict[str, Any]) -> None:
    """Dagster's own staleness of every artifact."""
    import dagster as dg
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    from orchestration.definitions import defs
    from orchestration.home import open_instance

    here = pipeline.current()
    with open_instance() as instance, _measured(facts):
        graph = defs.resolve_asset_graph()
        asked = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        found = [
            asked.get_status(dg.AssetKey(step.name), shard).value for step in here.steps for shard in here.shards(step)
        ]
    facts["stale"] = found.count("STALE")


def bulk(facts: dict[str, Any]) -> None:
    """The newest event of every artifact out of Dagster's database, with its tags."""
    from orchestration.home import open_instance
    from orchestration.publish import known_tags

    with open_instance() as instance, _measured(facts):
        steps = pipeline.current().steps
        facts["events"] = sum(len(known_tags(instance, step.name)) for step in steps)


def record_shards(facts: dict[str, Any], count: int = 1000) -> None:
    """The seam around a stage that does nothing: links, hashing, row, DVC, event. The stage is not counted."""
    from orchestration.artifacts import materialise
    from orchestration.cli.bench.lineage_world import write_sources
    from orchestration.home import open_instance
    from orchestration.lineage.current import Current
    from orchestration.observe import observe_sources
    from orchestration.resources import store

    os.environ["ORBITFORGE_WORKERS"] = "1"  # all of it in this process, so that all of it is counted
    here = pipeline.current()
    objects, prompts = (len(here.shards(here.find(name))) for name in ("source_objects", "prompts"))
    store.publish({}, also=[paths.data() / here.preset.name])  # what was there before
    write_sources(objects, prompts + count)
    current, step = Current(here), here.find("synthetic_corpus")
    shards = here.shards(step)[-count:]
    batches: list[float] = []
    publish = store.publish

    def timed(*arguments: Any, **named: Any) -> None:
        began = time.process_time()
        publish(*arguments, **named)
        batches.append(time.process_time() - began)

    store.publish = timed  # type: ignore[assignment]
    with open_instance() as instance:
        observe_sources(instance, here)
        context: Any = SimpleNamespace(
            instance=instance,
            partition_keys=shards,
            has_partition_key=False,
            has_partition_key_range=True,
            run_id="bench",
            run_tags={"orbitforge/pid": "1"},
            log=SimpleNamespace(info=lambda line: None, error=print),
        )
        with _measured(facts):
            for made in materialise(context, step, _nothing, pipeline=here):  # type: ignore[arg-type]
                if hasattr(made, "partition"):
                    instance.report_runless_asset_event(made)  # type: ignore[arg-type]
    facts |= {"shards": count, "batch": median(batches), "batches": len(batches), "before": len(current.everything)}


def _nothing(work: Any) -> None:
    (work.output / "shard.tar").write_text(f"{work.asset} {work.shard}")


WORK: dict[str, Callable[[dict[str, Any]], None]] = {
    work.__name__: work for work in (stale, glb, tell_dagster, resolver, bulk, record_shards)
}

if __name__ == "__main__":
    told: dict[str, Any] = {}
    WORK[sys.argv[1]](told)
    print(json.dumps(told))
