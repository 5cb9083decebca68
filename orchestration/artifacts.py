"""materialise(): the one place where an artifact becomes real."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestration import paths, publish
from orchestration import pipeline as pipelines
from orchestration.errors import OrbitforgeError, in_plain_words
from orchestration.lineage.accepted import Accepted
from orchestration.lineage.code import edited_while_running
from orchestration.lineage.current import Current, Shard, Wanted
from orchestration.lineage.idle import working
from orchestration.lineage.ledger import MADE, Ledger, Row, now, recalled, utc
from orchestration.lineage.meanwhile import Meanwhile
from orchestration.locks import this_process
from orchestration.pipeline import Pipeline
from orchestration.progress import Progress
from orchestration.resources import store
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.runs import PID, run_tags
from orchestration.resources.shards import map_shards
from orchestration.resources.tracking import Tracking, TrackingError
from orchestration.steps import Make, Step
from orchestration.tasks import Done, Task, name_of, perform, plan, train
from orchestration.versions import GitState, code_modules, config_of, git_state, tree_version
from orchestration.workspace import changing_data, in_place, missing, place
from stages.errors import InputError

if TYPE_CHECKING:
    import dagster as dg

    from orchestration.presets.schema import Preset

Listener = Callable[[str, str | None, dict[str, Any]], None]

LISTENERS: list[Listener] = []
"""Called in the main process with (asset, shard, event) for every report of a stage, and with {"progress":
Progress.as_json()} after it and, from another thread, every few seconds: progress bars hang here."""

WORKERS, ENGINE = "ORBITFORGE_WORKERS", "ORBITFORGE_ENGINE"
"""How many shards are made at once, and where ("local", "ray"), instead of what the preset says. Changes no bytes."""
ALONE = EngineConfig(workers=1, retries=0)


def materialise(
    context: dg.AssetExecutionContext, step: Step, make: Make, *, pipeline: Pipeline | None = None
) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult]:
    """Make what is stale of `step`: the run's partition keys if it has them, else every shard, or the whole asset.

    The body of an asset:

        @dg.asset(name=STEP.name, deps=STEP.reads, code_version=step_version(STEP, preset), ...)
        def rendered_views(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
            yield from materialise(context, STEP, make)

    What the ledger already holds (same inputs, code and config) is not made again, only put back in place. Each
    artifact is committed, and told to Dagster, as soon as it is done. A shard that fails leaves its neighbours alone;
    at the end one OrbitforgeError names all that failed. The result at the end adds no event of its own: it lets what
    is downstream in the same run go on.
    """
    import dagster as dg

    pipeline = pipeline or pipelines.current()
    tracking = Tracking() if step.kind == "model" else None
    _refuse_early(step, tracking)
    if PID not in context.run_tags:
        context.instance.add_run_tags(context.run_id, run_tags())
    meanwhile = Meanwhile()  # before what is there is read
    common = Common.of(step, pipeline.preset)
    pointers = publish.pointers(context.instance, pipeline, step)
    accepted = Accepted(Ledger())

    def code_of(row: Row) -> str:
        return accepted.first(row.asset, row.code, row.config_hash)

    with (
        working(),
        watching(step, pipeline.preset.name, context.log) as watch,
        publish.Publisher() as publisher,
    ):
        asked = _asked(context, step, pipeline)
        tasks, fresh, failures = _plan_all(pipeline, step, make, asked, watch, publisher)
        if fresh:
            context.log.info(_fresh(step, fresh))
        for row in publish.unknown(context.instance, step.name, fresh):
            yield publish.event(row, pointers, code=code_of(row))
        watch.now("", len(asked), len(fresh))
        fresh.clear()  # rows are kilobytes, and what is made now may take hours
        for task, done in _perform_all(context, tasks, tracking, pipeline.preset, watch):
            if isinstance(done, Exception):
                failures[task.shard] = done
                context.log.error(f"{task.name} failed: {_words(done)}")
                with suppress(OrbitforgeError):  # a full disk takes not even this
                    task.scratch.write("failed", {"error": _words(done), "run": context.run_id, "at": utc()})
                continue
            row, ours = _commit(task, done, context.run_id, common, meanwhile)
            publisher.add(row)
            if ours:
                links = _told(context, pipeline, row, tracking) if tracking else None
                preview = publish.preview(task.scratch.preview)
                yield publish.event(row, pointers, code=code_of(row), preview=preview, links=links)
                task.scratch.remove()
            else:
                context.log.info(f"{task.name} was made by {row.host or 'another process'} meanwhile")
                for unknown in publish.unknown(context.instance, step.name, [row]):
                    yield publish.event(unknown, pointers, code=code_of(unknown))
        watch.now("recording in data.dvc")
    if failures:
        raise _summary(step, failures)
    yield dg.MaterializeResult(metadata=dict(publish.NO_EVENT_OF_ITS_OWN))


def _plan_all(
    pipeline: Pipeline, step: Step, make: Make, asked: Sequence[Shard], watch: Progress, publisher: publish.Publisher
) -> tuple[list[Task], list[Row], dict[Shard, Exception]]:
    """What has to be made, what is there (in place again), and what cannot be planned."""
    current, recorded = Current(pipeline), store.recorded()
    tasks: list[Task] = []
    fresh: list[Row] = []
    failures: dict[Shard, Exception] = {}
    for shard in watch.over(asked, "planning"):
        try:
            wanted = current.wanted(step, shard)
            if row := _put_back(current, wanted, publisher, recorded):
                fresh.append(row)
            else:
                tasks.append(plan(current, wanted, make))
        except OrbitforgeError as error:
            failures[shard] = error
    current.write_seen()
    if not step.shards and (last := current.newest(step.name)):
        watch.before = last.seconds
    return tasks, fresh, failures


def _fresh(step: Step, rows: Sequence[Row]) -> str:
    """One line, however many: a run over thousands of shards may find all but a few of them made."""
    if len(rows) > 1:
        return f"{len(rows):,} shards of {step.name} are fresh"
    return f"{name_of(step.name, rows[0].shard)} is fresh: {rows[0].version}"


def _refuse_early(step: Step, tracking: Tracking | None) -> None:
    """Raise before any work is done when its result could not be recorded."""
    if tracking:
        tracking.check()
    Ledger().check()
    if edited := edited_while_running(step.code):
        raise OrbitforgeError(f"{', '.join(edited)} was edited since this process loaded it; start the run again")


def _asked(context: dg.AssetExecutionContext, step: Step, pipeline: Pipeline) -> Sequence[Shard]:
    if step.shards and (context.has_partition_key or context.has_partition_key_range):
        return context.partition_keys
    return pipeline.shards(step)


def _put_back(
    current: Current, wanted: Wanted, publisher: publish.Publisher, recorded: Mapping[str, str]
) -> Row | None:
    """The row that holds what is wanted, its files in place again; None when it has to be made.

    What `data.dvc` had `recorded` differently is published: the run that made it may have been killed before that.
    """
    row = current.row_of_key(wanted)
    if row is None or missing(row.files):
        return None
    newest = current.row(row.asset, row.shard)
    comes_back = newest is not None and newest.id != row.id
    lies = in_place(folder := paths.data() / row.folder, row.files)
    if comes_back or not lies:
        with changing_data():
            if comes_back:
                Ledger().append(recalled(row))
            if not lies:
                place(folder, row.files)
    if not lies or not store.records(recorded, row.folder, row.files):
        publisher.add(row)
    return row


def _perform_all(
    context: dg.AssetExecutionContext, tasks: Sequence[Task], tracking: Tracking | None, preset: Preset, watch: Progress
) -> Iterator[tuple[Task, Done | Exception]]:
    """Trainings in this process, so that they end with it; shards where the engine makes them."""

    def tell(task: Task, event: dict[str, Any]) -> None:
        for listener in LISTENERS:
            listener(task.asset, task.shard, event)
            listener(task.asset, task.shard, {"progress": watch.as_json()})

    def report(task: Task, event: dict[str, Any]) -> None:
        if message := event.get("message"):
            context.log.info(f"{task.name}: {message}")
        watch.hear(task.shard, event)
        tell(task, event)

    function = partial(train, tracking=tracking, dagster_run=context.run_id) if tracking else perform
    engine = engine_of(watch.step, preset.engine)
    for task, done in map_shards(function, tasks, engine, models=watch.step.models, report=report):
        watch.finish(task.shard, failed=isinstance(done, Exception))
        tell(task, {})
        yield task, done


def watching(step: Step, preset: str, log: Any) -> Progress:
    """Progress that is told in Dagster's log and to the listeners every few seconds, from the thread of its heart."""

    def told(watch: Progress) -> None:
        log.info(f"{step.name}: {watch.words()}")
        for listener in LISTENERS:
            listener(step.name, None, {"progress": watch.as_json()})

    return Progress(step, preset, told=told)


def engine_of(step: Step, engine: EngineConfig) -> EngineConfig:
    """The preset's engine for a step: what has no shards is made here; the environment has the last word."""
    if not step.shards:
        return ALONE
    said = {"name": os.environ.get(ENGINE), "workers": os.environ.get(WORKERS)}
    try:
        return EngineConfig.model_validate(engine.model_dump() | {key: value for key, value in said.items() if value})
    except ValidationError:
        raise OrbitforgeError(
            f"{ENGINE}={said['name'] or ''} {WORKERS}={said['workers'] or ''}: the engine is local or ray, the workers "
            "are a number from 1"
        ) from None


@dataclass(frozen=True)
class Common:
    """What the rows of a run share: how the repository, the code and the config of the step stood when it began."""

    git: GitState
    code_modules: dict[str, str]
    config: dict[str, Any]

    @classmethod
    def of(cls, step: Step, preset: Preset) -> Common:
        return cls(git_state(), code_modules(step.code), config_of(preset, step.config))


def _commit(task: Task, done: Done, run_id: str, common: Common, meanwhile: Meanwhile) -> tuple[Row, bool]:
    """Write the ledger row, which is the commit; all that follows can be repeated, and `reconcile()` does.

    The row comes before the files appear in `data/`: they are safe in the cache, so a kill in between leaves something
    to put in place and never a file that nobody knows. Of processes that made the same at once the first commits; the
    others get its row, and False.
    """
    with task.scratch.held(f"{task.preset.name} {this_process()}"), changing_data():
        theirs = meanwhile.row(task.folder, task.key)
        row = theirs or row_of(task, done, run_id, common)
        if theirs is None:
            Ledger().append(row)
        place(paths.data() / row.folder, row.files)
    return row, theirs is None


def _told(
    context: dg.AssetExecutionContext, pipeline: Pipeline, row: Row, tracking: Tracking
) -> Mapping[str, dg.MetadataValue] | None:
    """Links to MLflow, which takes the model into its registry; None where it is away: `reconcile()` tells it later."""
    try:
        return publish.links(pipeline, publish.register(row, tracking), row, tracking)
    except TrackingError as error:
        context.log.warning(f"{row.asset} is made and not yet registered: {error}")
        return None


def row_of(task: Task, done: Done, run_id: str | None, common: Common) -> Row:
    """All that is known about what was made, now."""
    return Row(
        kind=MADE,
        preset=task.preset.name,
        asset=task.asset,
        shard=task.shard,
        folder=task.folder,
        version=tree_version({file.path: file.md5 for file in done.files}),
        key=task.key,
        files=done.files,
        inputs=task.inputs,
        code=task.code,
        code_modules=common.code_modules,
        config_hash=task.config_hash,
        config=common.config,
        seed=task.seed,
        environment=done.environment,
        git_commit=common.git.commit,
        git_diff=common.git.diff,
        dagster_run=run_id,
        mlflow_run=done.mlflow_run,
        host=done.host,
        started=done.started,
        ended=now(),
        seconds=done.seconds,
        bytes=sum(file.size for file in done.files),
        metrics=done.metrics,
    )


def _summary(step: Step, failures: Mapping[Shard, Exception]) -> OrbitforgeError:
    words = [f"{shard}: {_words(error)}" if shard else _words(error) for shard, error in failures.items()]
    shown = "; ".join(words[:5]) + (f"; and {len(words) - 5} more" if len(words) > 5 else "")
    what = step.name if None in failures else f"{len(failures)} shards of {step.name}"
    summary = OrbitforgeError(f"{what} failed: {shown}")
    # what a person can put right needs no traceback; anything else may be a mistake of ours
    ours = (e for e in failures.values() if not isinstance(e, OrbitforgeError) and not in_plain_words(e))
    summary.__cause__ = next(ours, None)
    return summary


def _words(error: Exception) -> str:
    # a training says by itself what to lower
    plain = None if isinstance(error, OrbitforgeError | InputError) else in_plain_words(error)
    return plain or " ".join(str(error).split()) or type(error).__name__
