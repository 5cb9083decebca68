"""What MLflow and Dagster hold, against the ledger. Nothing is asked of a service that was never told anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from orchestration import paths
from orchestration.lineage.audit.findings import DAGSTER, MLFLOW, Finding
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import MLFLOW as SERVICE
from orchestration.lineage.ledger import Row
from orchestration.lineage.promoted import promoted
from orchestration.resources.tracking import Tracking
from orchestration.steps import Step

if TYPE_CHECKING:
    import dagster as dg
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

RESTORE = "`orbitforge restore` tells it again what the ledger knows"
GONE = "somebody removed the row or forged the tag: look at data.dvc's history in git"


def mlflow_findings(current: Current) -> Iterator[Finding]:
    """Each registered version: its tags, and the bytes of its files, against the row that made it."""
    published = current.published(SERVICE)
    tracking = Tracking()
    if not published:
        return
    if tracking.is_local and not tracking.database.is_file():
        words = f"{tracking.database.relative_to(paths.root())} is gone; {len(published)} models were registered in it"
        yield Finding(MLFLOW, "MLflow", words, RESTORE, broken=False)
        return
    client = tracking.client()
    known: dict[str, str] = {}
    for version in client.search_model_versions():
        name = f"MLflow models:/{version.name}/{version.version}"
        row_id = version.tags.get("ledger.row")
        if row_id is None:
            yield Finding(
                MLFLOW, name, "names no ledger row", "register what Orbitforge made, or ignore it", broken=False
            )
            continue
        row = current.row_of_id(row_id)
        if row is None:
            yield Finding(MLFLOW, name, f"names ledger row {row_id}, which is not in the ledger", GONE)
            continue
        known[row_id] = name
        if (tag := version.tags.get("dvc.md5")) != row.version:
            yield Finding(
                MLFLOW, name, f"has the tag dvc.md5 {tag}, row {row.id} says {row.version}", "correct the tag"
            )
        yield from _files(client, version, name, row)
    yield from _aliases(current, client, known)
    for row_id, reference in published.items():
        if row_id not in known and (row := current.row_of_id(row_id)) and _is_newest(current, row):
            yield Finding(
                MLFLOW, reference, f"is not in MLflow, row {row_id} was registered as it", RESTORE, broken=False
            )


def _aliases(current: Current, client: MlflowClient, known: Mapping[str, str]) -> Iterator[Finding]:
    """An alias that people were promised points to what was promoted."""
    aliases = {model.name: model.aliases for model in client.search_registered_models()}
    for (preset, asset, alias), row_id in promoted(current).items():
        name = f"{preset}-{asset}"
        version = aliases.get(name, {}).get(alias)
        if row_id in known and str(version) != known[row_id].rpartition("/")[2]:
            words = f"points to version {version}, {known[row_id]} was promoted (row {row_id})"
            yield Finding(MLFLOW, f"MLflow models:/{name}@{alias}", words, "`orbitforge promote` what it should be")


def _files(client: MlflowClient, version: ModelVersion, name: str, row: Row) -> Iterator[Finding]:
    """The version's own copy of the files, where its source lies now."""
    with TemporaryDirectory() as aside:
        folder = _local(version.source or "") or _fetched(version.source or "", aside)
        if folder is None or not folder.is_dir():
            yield Finding(MLFLOW, name, f"has no files at {version.source}", RESTORE)
            return
        hashes = hash_files(folder / file.path for file in row.files)
        for file in row.files:
            found = hashes[folder / file.path]
            if isinstance(found, OSError):
                yield Finding(MLFLOW, f"{name} {file.path}", f"cannot be read ({found.strerror})", RESTORE)
            elif found != file.md5:
                words = f"has md5 {found}, row {row.id} says {file.md5}: the checkpoint was swapped or damaged"
                yield Finding(MLFLOW, f"{name} {file.path}", words, f"delete this version, then {RESTORE}")


def _local(source: str) -> Path | None:
    address = urlsplit(source)
    return Path(unquote(address.path)) if address.scheme in ("", "file") else None


def _fetched(source: str, aside: str) -> Path | None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(artifact_uri=source, dst_path=aside))
    except (MlflowException, OSError):
        return None


def _is_newest(current: Current, row: Row) -> bool:
    newest = current.everything.get(row.folder)
    return newest is not None and newest.row == row.id


def dagster_findings(current: Current, instance: dg.DagsterInstance | None = None) -> Iterator[Finding]:
    """The newest event of each asset and shard: the row that it names, and the data version."""
    home = paths.dagster_home()
    if instance is None and not (home / "dagster.yaml").is_file():
        yield Finding(DAGSTER, "Dagster", f"{home.relative_to(paths.root())} is not here", RESTORE, broken=False)
        return
    from orchestration.home import open_instance
    from orchestration.publish import known_tags

    with nullcontext(instance) if instance else open_instance() as here:
        for step in current.pipeline.steps:
            tags = known_tags(here, step)
            yield from _tags(current, step, tags)
            made = [shard for shard in current.pipeline.shards(step) if current.newest(step.name, shard)]
            if lacking := [shard for shard in made if shard not in tags]:
                words = f"has no event for {len(lacking)} of {len(made)} that were made"
                yield Finding(DAGSTER, f"Dagster {step.name}", words, RESTORE, broken=False)


def _tags(current: Current, step: Step, tags: Mapping[str | None, Mapping[str, str]]) -> Iterator[Finding]:
    from orchestration.publish import DATA_VERSION_TAG, ROW_TAG

    rows = current.ledger.versions(found[ROW_TAG] for found in tags.values() if ROW_TAG in found)
    for shard, found in tags.items():
        what = f"Dagster {step.name}[{shard}]" if shard else f"Dagster {step.name}"
        row_id = found.get(ROW_TAG)
        if row_id is None:
            words = "has an event that names no ledger row"
            yield Finding(DAGSTER, what, words, "make it with `orbitforge run`", broken=False)
        elif row_id not in rows:
            yield Finding(DAGSTER, what, f"names ledger row {row_id}, which is not in the ledger", GONE)
        elif (version := found.get(DATA_VERSION_TAG)) != rows[row_id]:
            words = f"has data version {version}, row {row_id} says {rows[row_id]}"
            yield Finding(DAGSTER, what, words, RESTORE)
