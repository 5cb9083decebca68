"""After the commit: DVC, MLflow and Dagster are told. Each may be told again; what they hold is known by its md5."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current, input_versions
from orchestration.lineage.ledger import MLFLOW, PUBLISHED, File, Ledger, Row, about
from orchestration.resources import store
from orchestration.steps import DATA_VERSION_TAG, ROW_TAG, Source, Step
from orchestration.versions import code_and_config

if TYPE_CHECKING:
    from orchestration.pipeline import Pipeline
    from orchestration.resources.tracking import Point, Tracking

CURVE = "training.parquet"
_READ = 500  # events at once; SQLite takes so many variables in a query
SHARDS, SECONDS = 100, 60.0
"""A batch for DVC is full after so many artifacts, or after so long."""
AT_MOST = 0.05
"""Share of the time that batches may take: DVC lists all of an asset for each, so that among many shards they grow."""

NO_EVENT_OF_ITS_OWN: Mapping[str, Any] = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
"""Metadata for the result of an asset that has told its events itself.

Dagster would add one event for each partition key of the run, all with one data version. Observable sources have the
same need, and this is how Dagster 1.13 meets it; a test notices when that changes.
"""


# DVC


class Publisher:
    """Collects what was placed in `data/` and brings `data.dvc` in line, in batches and when the block is left."""

    def __init__(self) -> None:
        self._placed: dict[Path, tuple[File, ...]] = {}
        self._since = time.monotonic()
        self._took = 0.0  # the last batch, in seconds
        self._rows = 0  # since the ledger's files became one

    def add(self, row: Row) -> None:
        self._placed[paths.data() / row.folder] = row.files
        self._rows += 1
        if self._rows >= SHARDS:  # each commit looks at the list of the ledger's files
            Ledger().compact()
            self._rows = 0
        waited = time.monotonic() - self._since
        if (len(self._placed) >= SHARDS or waited > SECONDS) and self._took <= AT_MOST * waited:
            with suppress(OrbitforgeError):  # a `dvc push` holds the lock for long; the last batch is what has to pass
                self.flush()

    def flush(self) -> None:
        """Raises OrbitforgeError when DVC refuses; all stays in the batch then."""
        began = time.monotonic()
        try:
            Ledger().compact()  # DVC would carry a file for each row
            if self._placed:
                store.publish(self._placed, also=[paths.ledger()])
                self._placed = {}
        finally:
            self._since = time.monotonic()
            self._took = self._since - began

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after an interruption reconcile() publishes; after an error of a stage the finished shards are published now
        if kind is None or issubclass(kind, Exception):
            self.flush()


# MLflow


def register(
    row: Row,
    tracking: Tracking,
    *,
    folder: Path | None = None,
    run: str | None = None,
    more: Mapping[str, str] | None = None,
) -> Row:
    """Register the model of `row` and write down which version it became; a run that MLflow was away from is completed.

    Its files are taken from `folder`, by default where they lie in `data/`; `run` is the MLflow run that it belongs to,
    by default the one that trained it. Raises TrackingError when MLflow is away: `reconcile()` comes back to it.
    """
    tags = {
        **(more or {}),
        "dagster.run_id": row.dagster_run or "",
        "dvc.md5": row.version,
        "code_version": row.code,
        "config_hash": row.config_hash,
        "ledger.row": row.id,
    }
    name = f"{row.preset}-{row.asset}"
    if row.mlflow_run and run is None:
        tracking.complete(row.mlflow_run, curve(row))
    version = tracking.register(name, folder or paths.data() / row.folder, run or row.mlflow_run, tags)
    told = about(row, PUBLISHED, service=MLFLOW, reference=f"models:/{name}/{version}")
    Ledger().append(told)
    return told


def curve(row: Row) -> Iterator[Point]:
    """What the training of a model logged, by its own table, and what it was measured at."""
    for file in row.files:
        if Path(file.path).name == CURVE:
            yield from pl.read_parquet(store.object_path(file.md5)).select("step", "name", "value").iter_rows()
    yield from ((0, name, value) for name, value in row.metrics.items())


# Dagster


def links(pipeline: Pipeline, told: Row, row: Row, tracking: Tracking) -> dict[str, dg.MetadataValue]:
    """From the event of a model to its MLflow run and version, and its lineage in short."""
    from orchestration.lineage.exports.modelcard import summary
    from orchestration.lineage.record import record

    found: dict[str, dg.MetadataValue] = {"lineage": dg.MetadataValue.md(summary(record(Current(pipeline), row)))}
    name, _, version = (told.reference or "").removeprefix("models:/").partition("/")
    found["mlflow_version"] = dg.MetadataValue.url(tracking.version_url(name, version))
    if run := row.mlflow_run and tracking.run_url(row.mlflow_run):
        found["mlflow_run"] = dg.MetadataValue.url(run)
    return found


def event(
    row: Row,
    pointers: Mapping[str, int],
    *,
    code: str,
    preview: str = "",
    links: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.AssetMaterialization:
    """The event that tells Dagster of `row`. `pointers` names the event of each input that was the newest then.

    `code` is the row's, or the first of those that were accepted to be as good (`Accepted.first`). The tags are what
    Dagster itself writes for an asset that is not partitioned: with them its own staleness works.
    """
    tags = {
        DATA_VERSION_TAG: row.version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: code_and_config(code, row.config_hash),
        ROW_TAG: row.id,
    }
    for asset, version in input_versions(row.inputs).items():
        key = dg.AssetKey(asset)
        tags[get_input_data_version_tag(key)] = version
        tags[get_input_event_pointer_tag(key)] = str(pointers.get(asset) or "NULL")
    facts: dict[str, Any] = {
        "path": f"data/{row.folder}",
        "files": len(row.files),
        "bytes": row.bytes,
        "seconds": round(row.seconds, 3),
        "ledger_row": row.id,
        **row.metrics,
        **(links or {}),
    }
    if preview:
        facts["preview"] = dg.MetadataValue.md(preview)
    return dg.AssetMaterialization(row.asset, partition=row.shard, metadata=facts, tags=tags)


def pointers(instance: dg.DagsterInstance, pipeline: Pipeline, step: Step) -> dict[str, int]:
    """For each asset that `step` reads, the newest event of it that Dagster holds now."""
    newest: dict[str, int] = {}
    for name in step.reads:
        observed = isinstance(pipeline.find(name), Source)
        fetch = instance.fetch_observations if observed else instance.fetch_materializations
        if records := fetch(dg.AssetKey(name), limit=1).records:
            newest[name] = records[0].storage_id
    return newest


def unknown(instance: dg.DagsterInstance, asset: str, rows: Sequence[Row]) -> list[Row]:
    """Those of `rows`, of one asset, that are not what the newest event of their artifact tells of."""
    if not rows:
        return []
    told = known_tags(instance, asset, [row.shard for row in rows if row.shard])
    return [row for row in rows if told.get(row.shard, {}).get(ROW_TAG) != row.id]


def known_versions(instance: dg.DagsterInstance, step: Step) -> dict[str | None, str]:
    """Shard -> data version of the newest event that Dagster holds: one query for all shards."""
    if not step.shards:
        tags = known_tags(instance, step.name)
        return {shard: found.get(DATA_VERSION_TAG, "") for shard, found in tags.items()}
    found = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(step.name), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {shard: tags.get(DATA_VERSION_TAG, "") for shard, tags in found.items()}


def known_tags(
    instance: dg.DagsterInstance, asset: str, shards: Sequence[str] = ()
) -> dict[str | None, Mapping[str, str]]:
    """Shard -> all tags of the newest event that Dagster holds, of `shards` at least. It indexes no other tag than the
    data version."""
    key, made = dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION
    some = set(shards) if 0 < len(shards) <= _READ else None
    newest = list(instance.event_log_storage.get_latest_storage_id_by_partition(key, made, some).values())
    if not newest:
        newest = [record.storage_id for record in instance.fetch_materializations(key, limit=1).records]
    found: dict[str | None, Mapping[str, str]] = {}
    for start in range(0, len(newest), _READ):
        asked = dg.AssetRecordsFilter(key, storage_ids=newest[start : start + _READ])
        for record in instance.fetch_materializations(asked, limit=_READ).records:
            if event := record.asset_materialization:
                found[event.partition] = event.tags or {}
    return found


def preview(folder: Path, *, at_most: int = 2_000_000) -> str:
    """What a stage wrote to `folder` (*.md as it is, *.png inside), as one Markdown text of `at_most` bytes."""
    parts: list[str] = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.suffix == ".md":
            parts.append(path.read_text())
        elif path.suffix == ".png":
            image = base64.b64encode(path.read_bytes()).decode()
            parts.append(f"**{path.stem.replace('_', ' ')}**\n\n![{path.stem}](data:image/png;base64,{image})")
        if sum(map(len, parts)) > at_most:
            parts[-1] = f"({path.name} is too large to show)"
    return "\n\n".join(parts)
