"""Running what is stale: one run for each group of assets, in order, in this process.

Dagster 1.13 refuses an asset job over two sets of partitions (objects and prompts), and a run without partition keys
fails at an edge between two partitioned assets. A group has at most one set, so the chain is its group jobs in a row,
each over a range of shards; what is fresh within the range is put back by the seam, not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg

from orchestration.errors import OrbitforgeError, StoppedError, in_plain_words
from orchestration.lineage.staleness import FRESH, AssetStatus, status
from orchestration.observe import observe_sources
from orchestration.pipeline import Pipeline
from orchestration.resources.runs import run_tags
from orchestration.signals import insisting
from orchestration.steps import Report, Step
from orchestration.telling import planned_together

if TYPE_CHECKING:
    from dagster._utils.error import SerializableErrorInfo

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
NO_RETRY = {"dagster/max_retries": "0"}
"""A daemon cannot start again what lives in a process of its own; the next `orbitforge run` goes on from there."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
ERROR = dg.AssetCheckSeverity.ERROR
PLAIN = {
    *("OrbitforgeError", "MachineError", "PresetError", "TrackingError", "InputError", "SourceError"),
    "DagsterAssetCheckFailedError",
}
EXPECTED = PLAIN | {"ValueError", "OSError", "FloatingPointError"}
"""What a stage raises about its input or its numbers; anything else is our own mistake and shown with its traceback."""


class StepError(OrbitforgeError):
    """A step that failed. `trace` is the traceback where the mistake is ours, else empty."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True)
class Part:
    """One run: assets of one group, and the shards that its partitioned assets need."""

    group: str
    assets: tuple[str, ...]
    shards: tuple[str, ...] = ()


def job_name(group: str, pipeline: Pipeline) -> str:
    """The job of a group. Dagster gives jobs and assets one set of names, so one that an asset has is lengthened."""
    return f"{group}_group" if group in {step.name for step in pipeline.steps} else group


def groups(pipeline: Pipeline, job: str = "chain") -> list[str]:
    """The groups of a job, each after those that it reads from."""
    steps = {step.name: step for step in pipeline.steps if step.job == job}
    above: dict[str, set[str]] = {step.group: set() for step in steps.values()}
    for step in steps.values():
        above[step.group] |= {steps[name].group for name in (*step.reads, *step.files) if name in steps} - {step.group}
    return list(TopologicalSorter(above).static_order())


def plan(
    pipeline: Pipeline,
    states: Iterable[AssetStatus],
    *,
    job: str = "chain",
    select: frozenset[str] | None = None,
    only_stale: bool = False,
    limit: int | None = None,
) -> list[Part]:
    """What has to run: the assets that are not fresh, with their shards, one part for each group.

    `only_stale` leaves alone what was never made (but not what was made and is gone). `limit` makes at most so many
    shards of an asset; what reads the shards that are left out waits too.
    """
    todo: dict[str, dict[str, list[str | None]]] = {group: {} for group in groups(pipeline, job)}
    waiting: dict[str, set[str | None]] = {}
    for state in states:
        step = pipeline.find(state.asset)
        if not isinstance(step, Step) or step.job != job or (select is not None and step.name not in select):
            continue
        wanted = [s for s in state.shards if s.status != FRESH]
        asked = [s.shard for s in wanted if s.version or not only_stale]
        ready = [shard for shard in asked if not _waits(pipeline, step, shard, waiting)]
        if step.shards:
            ready = ready[:limit]
        if left := {s.shard for s in wanted} - set(ready):
            waiting[step.name] = left
        if ready:
            todo[step.group][step.name] = ready
    return [
        Part(group, tuple(assets), tuple(sorted({s for shards in assets.values() for s in shards if s is not None})))
        for group, assets in todo.items()
        if assets
    ]


def run_chain(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    *,
    job: str = "chain",
    tags: dict[str, str] | None = None,
    announce: Callable[[Part, str], None] = lambda part, run_id: None,
    report: Report = lambda event: None,
    **choice: Any,
) -> list[Part]:
    """Run what `plan(..., **choice)` names, group by group, and return what ran. `report` hears how many sources
    Dagster was told of.

    Staleness is asked again after each group that ran: what a new version did not change stays fresh. Raises StepError
    at the first group in which a step failed, after its independent steps have run, and StoppedError where it was
    ended.
    """
    observe_sources(instance, pipeline, report)
    done: list[Part] = []
    states: list[AssetStatus] | None = None
    for group in groups(pipeline, job):
        states = states or status(pipeline)
        part = next((part for part in plan(pipeline, states, job=job, **choice) if part.group == group), None)
        if part:
            states = None  # as large as the shards are many
            _refuse_failed_checks(definitions, instance, pipeline, part)
            _run(definitions, instance, part, job_name(group, pipeline), tags or {}, announce)
            done.append(part)
    return done


def _run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    part: Part,
    job: str,
    tags: dict[str, str],
    announce: Callable[[Part, str], None],
) -> None:
    span = {RANGE_START: part.shards[0], RANGE_END: part.shards[-1]} if part.shards else {}
    run_id = str(uuid4())
    announce(part, run_id)
    with planned_together(instance), insisting():
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=[dg.AssetKey(asset) for asset in part.assets],
            tags={**tags, **run_tags(), **span, **NO_RETRY},
            run_config=QUIET,
            raise_on_error=False,
        )
    for event in result.all_events:
        if event.is_step_failure and (error := event.step_failure_data.error):
            raise _explained(event.step_key or part.group, error)
    if not result.success:
        raise StepError(
            f"{part.group} failed in run {run_id}, and Dagster could not take down why; most often there is not enough "
            "memory, or the disk is full: free some and run again, finished work is kept"
        )


def _explained(step: str, error: SerializableErrorInfo) -> OrbitforgeError:
    """The stage's own error out of Dagster's wrapping, in one line."""
    chain = [error]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    if any(each.cls_name == "DagsterExecutionInterruptedError" for each in chain):
        return StoppedError(f"{step} was stopped; what is finished is kept, and the next run goes on from there")
    told = next((each for each in chain if each.cls_name in PLAIN), chain[-1])
    message = " ".join(told.message.split())
    message = message.partition(f"{told.cls_name}: ")[2] or message
    kind = MemoryError if (told.cls_name or "").endswith("MemoryError") else Exception
    plain = None if told.cls_name in PLAIN else in_plain_words(kind(message))
    if plain:
        return StepError(f"{step} failed: {plain}")
    named = message if message.startswith(step) else f"{step} failed: {message}"
    return StepError(named, "" if chain[-1].cls_name in EXPECTED else error.to_string())


def _refuse_failed_checks(
    definitions: dg.Definitions, instance: dg.DagsterInstance, pipeline: Pipeline, part: Part
) -> None:
    """Raise when a blocking check failed on data that this part would build on.

    Dagster holds back the rest of the run in which a check fails; later runs would not ask.
    """
    above = _upstream(pipeline, part.assets) - set(part.assets)
    checks = definitions.resolve_asset_graph().asset_check_keys
    keys = [key for key in checks if key.asset_key.to_user_string() in above]
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
        evaluation = record.evaluation
        if not isinstance(evaluation, dg.AssetCheckEvaluation):  # planned, in a run that did not get so far
            continue
        if evaluation.blocking and not evaluation.passed and evaluation.severity == ERROR:
            asset = key.asset_key.to_user_string()
            raise StepError(f"{asset}: {evaluation.description} (check {key.name}); correct it and run again")


def _waits(pipeline: Pipeline, step: Step, shard: str | None, waiting: dict[str, set[str | None]]) -> bool:
    """Whether something that this shard reads is left out."""
    for name in waiting.keys() & {*step.reads, *step.files}:
        alike = shard is not None and pipeline.find(name).shards == step.shards
        if not alike or shard in waiting[name]:
            return True
    return False


def _upstream(pipeline: Pipeline, assets: Iterable[str]) -> set[str]:
    found: set[str] = set()
    queue = list(assets)
    while queue:
        step = pipeline.find(queue.pop())
        new = set(step.reads) - found if isinstance(step, Step) else set()
        found |= new
        queue.extend(new)
    return found
