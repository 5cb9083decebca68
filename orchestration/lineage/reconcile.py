"""After a crash: the ledger is the truth, the rest is brought in line with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import paths
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MLFLOW, Ledger, Row, recalled
from orchestration.pipeline import Pipeline
from orchestration.resources import store
from orchestration.steps import Report
from orchestration.telling import tell, telling
from orchestration.versions import data_version
from orchestration.workspace import alone_with_data, in_place, missing, place, remove, set_aside

if TYPE_CHECKING:
    import dagster as dg

_ABANDONED = 3600.0  # seconds after which a temporary file has no owner any more


def reconcile(
    pipeline: Pipeline, instance: dg.DagsterInstance | None = None, report: Report = lambda event: None
) -> list[str]:
    """Complete what a killed run left undone and say so, one line per finding; [] when all is in line.

    Artifacts that are missing from `data/` or are not what their row says, but whose objects are in the cache, are
    linked again; what lies in `data/<preset>/` without a ledger row is moved to `.work/unclaimed/`, never deleted;
    rows that lack a DVC entry, an MLflow version or (with `instance`) a Dagster event get it. Call it before a run.
    `report` hears how far it is.
    """
    report({"message": "reading the ledger"})
    _sweep()
    with alone_with_data():
        current = Current(pipeline)
        rows = [
            row for step in pipeline.steps for shard in pipeline.shards(step) if (row := current.row(step.name, shard))
        ]
        findings = [*_unclaimed(pipeline, current), *_put_back(current, rows, report)]
    return [
        *findings,
        *_tell_dvc(rows, report),
        *_tell_mlflow(pipeline, current, rows),
        *(tell_dagster(pipeline, current, rows, instance, report) if instance else ()),
    ]


def _unclaimed(pipeline: Pipeline, current: Current) -> list[str]:
    """Set aside what is below `data/<preset>/` and is no artifact: no row ever named its folder."""
    home = paths.data() / pipeline.preset.name
    known = {paths.data() / folder for folder in current.folders()}
    parents = {parent for folder in known for parent in folder.parents}
    strays: list[Path] = []

    def look(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            if path in known:
                continue
            if path in parents and path.is_dir():
                look(path)
            else:
                strays.append(path)

    if home.is_dir():
        look(home)
    return [
        f"{path.relative_to(paths.root())} has no ledger row: moved to {set_aside(path).relative_to(paths.root())}"
        for path in strays
    ]


def _put_back(current: Current, rows: Sequence[Row], report: Report) -> list[str]:
    findings: list[str] = []
    for number, row in enumerate(rows):
        if not in_place(paths.data() / row.folder, row.files) and (finding := _mend(current, row)):
            findings.append(f"data/{row.folder} {finding}")
        report({"step": number + 1, "of": len(rows), "message": "looking at data/"})
    return findings


def _mend(current: Current, newest: Row) -> str:
    """Bring the folder and the newest row together; says what was wrong and what was done."""
    folder = paths.data() / newest.folder
    earlier = current.row_of_version(newest.folder, data_version(folder)) if folder.is_dir() else None
    if earlier and folder.stat().st_mtime > datetime.fromisoformat(newest.ended).timestamp():
        # put there after the newest was made: a person did that, say by `dvc checkout`
        Ledger().append(recalled(earlier))
        return f"holds the earlier version {earlier.version}: recorded as the current one"
    if absent := missing(newest.files):
        state = "is not what the ledger says" if folder.is_dir() else "is missing"
        return f"{state}, and {len(absent)} files are not in the cache: pull or make it"
    if earlier or not folder.is_dir():
        place(folder, newest.files)
        return f"{'was behind the ledger' if earlier else 'was missing'}: linked again from the cache"
    aside = set_aside(folder).relative_to(paths.root())
    place(folder, newest.files)
    return f"was not what the ledger says: linked again, the other moved to {aside}"


def _tell_dvc(rows: Iterable[Row], report: Report) -> list[str]:
    recorded = store.recorded()
    lacking = [
        row
        for row in rows
        if not store.records(recorded, row.folder, row.files) and (paths.data() / row.folder).is_dir()
    ]
    if lacking:
        report({"message": f"recording {len(lacking):,} artifacts in data.dvc"})
        store.publish({paths.data() / row.folder: row.files for row in lacking}, also=[paths.ledger()])
    return [f"data/{row.folder} was not in data.dvc: recorded" for row in lacking]


def _tell_mlflow(pipeline: Pipeline, current: Current, rows: Iterable[Row]) -> list[str]:
    from orchestration import publish
    from orchestration.resources.tracking import Tracking, TrackingError

    tracking, findings = Tracking(), list[str]()
    for row in untold(pipeline, current, rows):
        try:
            findings.append(f"{row.asset} was not in MLflow: registered as {publish.register(row, tracking).reference}")
        except TrackingError as error:  # the rest would fare alike, and what needs no MLflow need not wait for it
            return [*findings, f"{row.asset} is not in MLflow yet: {error}"]
    return findings


def untold(pipeline: Pipeline, current: Current, rows: Iterable[Row]) -> list[Row]:
    """Those of `rows` that are models and not registered."""
    from orchestration.resources.tracking import Tracking

    tracking = Tracking()
    # what an MLflow knew that is gone, the new one has to be told
    forgotten = tracking.is_local and not tracking.database.is_file()
    known = {} if forgotten else current.published(MLFLOW)
    models = {step.name for step in pipeline.steps if step.kind == "model"}
    return [row for row in rows if row.asset in models and row.id not in known and (paths.data() / row.folder).is_dir()]


def tell_dagster(
    pipeline: Pipeline,
    current: Current,
    rows: Iterable[Row],
    instance: dg.DagsterInstance,
    report: Report = lambda event: None,
) -> list[str]:
    """Report an event for each of `rows` whose version is not the newest that Dagster knows."""
    with telling():
        return _tell_dagster(pipeline, current, rows, instance, report)


def _tell_dagster(
    pipeline: Pipeline, current: Current, rows: Iterable[Row], instance: dg.DagsterInstance, report: Report
) -> list[str]:
    from orchestration import publish

    steps = {step.name: step for step in pipeline.steps}
    told = {step.name: publish.known_versions(instance, step) for step in pipeline.steps}
    newest = cache(lambda asset: publish.pointers(instance, pipeline, steps[asset]))
    lacking = [row for row in rows if told[row.asset].get(row.shard) != row.version]

    def event(row: Row) -> dg.AssetMaterialization:
        now_read = {(i.asset, i.shard): i.version for i in current.wanted(steps[row.asset], row.shard).inputs}
        outdated = {i.asset for i in row.inputs if now_read.get((i.asset, i.shard)) != i.version}
        # what was read is not the newest any more: point at the beginning, so that Dagster sees that, too
        pointers = {asset: 1 if asset in outdated else event for asset, event in newest(row.asset).items()}
        return publish.event(row, pointers, code=current.accepted.first(row.asset, row.code, row.config_hash))

    # an asset at a time: those behind it point at its newest event
    done = 0
    for _, alike in groupby(lacking, key=lambda row: row.asset):
        before = done

        def hear(count: int, before: int = before) -> None:
            report({"step": before + count, "of": len(lacking), "message": "telling Dagster"})

        done += tell(instance, map(event, alike), hear)
    return [f"data/{row.folder} had no event in Dagster: reported" for row in lacking]


def _sweep() -> None:
    """Remove what killed processes left unfinished and nobody can name."""
    now = time.time()
    folders = [each for name in ("placing", "observed") for each in (paths.work() / name).glob("*")]
    for path in (*folders, *paths.ledger().glob("*.tmp")):
        with suppress(FileNotFoundError):  # its process lives, and was quicker
            if now - path.stat().st_mtime > _ABANDONED:
                remove(path) if path.is_dir() else path.unlink()
    if len(Ledger().names()) > _MANY:
        Ledger().compact(everything=True)


_MANY = 200  # ledger files; thousands read in a third of a second, but DVC carries every one of them
