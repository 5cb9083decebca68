"""Making one artifact: what a process has to know, what it reads, and what it gives back."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import polars as pl

from orchestration.errors import MachineError, OrbitforgeError
from orchestration.lineage.current import Current, Shard, Wanted, input_versions
from orchestration.lineage.ledger import File, Input, Row, utc
from orchestration.lineage.meanwhile import made_before
from orchestration.lineage.sources import observe
from orchestration.locks import this_process
from orchestration.resources.store import object_path
from orchestration.steps import Make, Report, Source, Step, Work
from orchestration.versions import TOOLS, asset_seed, code_version, config_of, environment
from orchestration.workspace import Scratch, link_inputs, missing, protect, store

if TYPE_CHECKING:
    from orchestration.presets.schema import Preset
    from orchestration.resources.patient import PatientLogger
    from orchestration.resources.tracking import Tracking


@dataclass(frozen=True)
class Part:
    """Links to read: the files of the artifact `of`, below sub-folder `folder` of the input `input`."""

    input: str
    folder: str
    files: tuple[File, ...]
    of: str


@dataclass(frozen=True)
class Task:
    """All that a process needs to make one artifact; picklable."""

    make: Make
    step: Step
    shard: Shard
    preset: Preset
    folder: str
    key: str
    code: str
    config_hash: str
    inputs: tuple[Input, ...]
    parts: tuple[Part, ...]
    environment: dict[str, str] = field(default_factory=lambda: environment())
    """Of the machine that plans."""

    @property
    def asset(self) -> str:
        return self.step.name

    @property
    def name(self) -> str:
        return name_of(self.asset, self.shard)

    @property
    def scratch(self) -> Scratch:
        return Scratch.of(self.asset, self.shard, self.key)

    @property
    def seed(self) -> int:
        return asset_seed(self.preset.seed, self.asset)


@dataclass(frozen=True)
class Done:
    """What making gave, and where; the files are in the cache. `seconds` are those of the stage and of hashing.

    `row` is the id of the row that says so already, where another process has made the same meanwhile.
    """

    files: tuple[File, ...]
    started: str
    seconds: float
    metrics: dict[str, float]
    mlflow_run: str | None = None
    row: str | None = None
    host: str = field(default_factory=platform.node)
    environment: dict[str, str] = field(default_factory=lambda: environment())


def plan(current: Current, wanted: Wanted, make: Make) -> Task:
    """Find the rows of everything that will be read. Raises OrbitforgeError when something is not there."""
    step, shard = wanted.step, wanted.shard
    if wanted.absent:
        names = ", ".join(name_of(*absent) for absent in wanted.absent[:5])
        raise OrbitforgeError(f"{name_of(step.name, shard)} reads {names}, which does not exist yet: make it first")
    rows = [_row(current, input_) for input_ in wanted.inputs]
    wanted = replace(
        wanted,
        inputs=tuple(input_._replace(row=row.id) for input_, row in zip(wanted.inputs, rows, strict=True)),
    )
    return Task(
        make=make,
        step=step,
        shard=shard,
        preset=current.pipeline.preset,
        folder=wanted.folder,
        key=wanted.key,
        code=wanted.code,
        config_hash=wanted.config_hash,
        inputs=wanted.inputs,
        parts=_parts(current, step, shard, wanted.inputs, rows),
    )


def again(current: Current, row: Row, make: Make, preset: Preset, code: str) -> Task:
    """The task that made `row`, of what it was made of then, in a scratch folder of its own.

    Raises OrbitforgeError when the ledger lost a row that it names.
    """
    step = current.pipeline.find(row.asset)
    assert isinstance(step, Step)
    rows = current.rows_of_ids(input_.row for input_ in row.inputs)
    if len(rows) < len(row.inputs):
        raise OrbitforgeError(
            f"the ledger lost {len(row.inputs) - len(rows)} rows that {name_of(row.asset, row.shard)} was made of; "
            "`orbitforge audit` names them"
        )
    return Task(
        make=make,
        step=step,
        shard=row.shard,
        preset=preset,
        folder=row.folder,
        key=f"again-{row.key}-{uuid4().hex[:8]}",  # others may do the same
        code=code,
        config_hash=row.config_hash,
        inputs=row.inputs,
        parts=_parts(current, step, row.shard, row.inputs, rows),
    )


def _parts(
    current: Current, step: Step, shard: Shard, inputs: Sequence[Input], rows: Sequence[Row]
) -> tuple[Part, ...]:
    read = [(input_.asset, row) for input_, row in zip(inputs, rows, strict=True)]
    read += [(name, row) for name, found in current.behind(inputs, step.files).items() for row in found]
    parts: list[Part] = []
    for name, row in read:
        alike = shard is not None and current.pipeline.find(name).shards == step.shards
        if not alike or row.shard == shard:
            folder = "" if alike or row.shard is None else row.shard
            parts.append(Part(name, folder, row.files, name_of(name, row.shard)))
    return tuple(parts)


def perform(
    task: Task,
    report: Report,
    begin: Callable[[], Sequence[Any]] = tuple,
    keep: Callable[[Path], tuple[File, ...]] = store,
) -> Done:
    """Make one artifact: link its inputs, run the stage, and `keep` its output, which is to move it into the cache.

    `begin` gives the loggers; it is called when it is sure that nobody else has made it. Raises what the stage raises,
    and MachineError when the code was edited meanwhile, or when code or libraries here are not those of the machine
    that planned it.
    """
    scratch, metrics = task.scratch, {}
    note = f"{task.preset.name} {this_process()}"
    waited = False

    def tell(event: dict[str, Any]) -> None:
        metrics.update(event.get("metrics", {}))
        report(event)

    def waiting(who: str) -> None:
        nonlocal waited
        waited = True
        report({"message": f"another process ({who}) makes the same; waiting for it"})

    with scratch.held(note, waiting):
        if done := _done_before(scratch) or (_committed(task) if waited or task.shard is None else None):
            return done
        _same_code(task)
        _same_libraries(task)
        started, clock = utc(), time.monotonic()
        inputs = scratch.fresh("inputs")
        for part in task.parts:
            link_inputs(inputs / part.input / part.folder, part.files, part.of)
        protect(inputs)
        output = scratch.fresh("output")
        scratch.state.mkdir(exist_ok=True)
        loggers = begin()
        task.make(
            Work(
                asset=task.asset,
                shard=task.shard,
                inputs={part.input: inputs / part.input for part in task.parts},
                output=output,
                scratch=scratch.state,
                preset=task.preset,
                seed=task.seed,
                report=tell,
                versions=input_versions(task.inputs),
                loggers=list(loggers),
            )
        )
        _same_code(task)
        done = Done(keep(output), started, time.monotonic() - clock, metrics)
        scratch.write("done", vars(done))
        return done


def train(task: Task, report: Report, tracking: Tracking, dagster_run: str) -> Done:
    """perform(), watched by MLflow. A training that was killed goes on in the MLflow run it had.

    MLflow must be there when it begins. If it goes away later the training goes on, and what was not told is told by
    `publish.register`, now or by a later run.
    """
    from orchestration.resources.tracking import TrackingError

    started: list[PatientLogger] = []

    def begin() -> list[PatientLogger]:
        run = tracking.start(
            f"{task.preset.name}-{task.asset}",
            parameters=config_of(task.preset, task.step.config),
            tags={"dagster.run_id": dagster_run, "code_version": task.code, "config_hash": task.config_hash},
            datasets=input_versions(task.inputs),
            run_id=_run_of(task),
            place=f"{platform.node()}:{task.scratch.folder}",
        )
        task.scratch.write("mlflow", {"run": run})
        started.append(tracking.logger(run, lambda words: report({"message": words})))
        return started

    try:
        done = perform(task, report, begin)
    except Exception as error:
        try:
            if run := _run_of(task):
                tracking.finish(run, failed=True)
        except Exception as other:  # the stage's own error is the one to read
            error.add_note(f"MLflow was not told: {other}")
        raise
    if done.row or not (run := _run_of(task)):
        return done
    left = [point for logger in started for point in logger.left]
    try:
        figures = [*_figures(done), *((0, name, value) for name, value in done.metrics.items())]
        tracking.log_curve(run, [*left, *figures])
        tracking.log_pictures(run, task.scratch.state / "preview")
        tracking.finish(run)
    except TrackingError as error:  # the run stays open: register() completes it
        report({"message": f"made, and will be told later: {error}"})
    return replace(done, mlflow_run=run)


def _run_of(task: Task) -> str | None:
    """The MLflow run in which it is trained."""
    return (task.scratch.read("mlflow") or {}).get("run")


def _figures(done: Done) -> list[tuple[int, str, float]]:
    """(step, name, value) of what the finished model was measured at; its curves went to MLflow while it trained."""
    found: list[tuple[int, str, float]] = []
    for file in done.files:
        if Path(file.path).name == "training.parquet":
            curve = pl.read_parquet(object_path(file.md5)).select("step", "name", "value")
            found += curve.filter(pl.len().over("name") <= 2).iter_rows()
    return found


def name_of(asset: str, shard: Shard) -> str:
    return asset if shard is None else f"{asset}[{shard}]"


def _row(current: Current, input_: Input) -> Row:
    found = current.pipeline.find(input_.asset)
    if isinstance(found, Source):
        return observe(current, found, input_.shard)
    row = current.row(input_.asset, input_.shard)
    assert row is not None
    return row


def _done_before(scratch: Scratch) -> Done | None:
    """What a process had finished that was killed before the commit."""
    if kept := scratch.read("done"):
        done = Done(**{**kept, "files": tuple(File(*file) for file in kept["files"])})
        return None if missing(done.files) else done
    return None


def _committed(task: Task) -> Done | None:
    """What another process made and committed since this one planned to make the same."""
    row = made_before(task.folder, task.key)
    if row is None or missing(row.files):
        return None
    return Done(row.files, row.started, row.seconds, row.metrics, row.mlflow_run, row.id)


def _same_code(task: Task) -> None:
    if code_version(task.step.code) != task.code:
        modules = ", ".join(task.step.code)
        raise MachineError(
            f"the code of {modules} was edited meanwhile; nothing was recorded, start the run again (or, if "
            f"{platform.node()} has code of its own, give it that of the run)"
        )


def _same_libraries(task: Task) -> None:
    """The ledger says by which libraries an artifact was made, and those of one run are alike."""
    free = TOOLS | {"threads"}
    here, there = environment(), task.environment
    other = sorted(name for name in (here.keys() | there.keys()) - free if here.get(name) != there.get(name))
    if other:
        words = ", ".join(f"{name} {here.get(name, 'absent')} in place of {there.get(name, 'none')}" for name in other)
        raise MachineError(f"{platform.node()} has {words}; nothing was made there: give it the image of the run")
