"""What MLflow and Dagster hold, against the ledger. Nothing is asked of a service that was never told anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import polars as pl

from orchestration import paths
from orchestration.lineage.audit.events import newest_tags
from orchestration.lineage.audit.findings import DAGSTER, MLFLOW, Finding
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import MLFLOW as SERVICE
from orchestration.lineage.ledger import Row, among
from orchestration.lineage.promoted import promoted
from orchestration.steps import DATA_VERSION_TAG, ROW_TAG
from orchestration.tasks import name_of

if TYPE_CHECKING:
    import dagster as dg
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

RESTORE = "`orbitforge restore` tells it again what the ledger knows"
GONE = "somebody removed the row or forged the tag: look at data.dvc's history in git"


def mlflow_findings(current: Current) -> Iterator[Finding]:
    """Each registered version: its tags, and the bytes of its files, against the row that made it."""
    published = current.published(SERVICE)
    if not published:
        return
    from orchestration.resources.tracking import Tracking, told

    tracking = Tracking()
    if tracking.is_local and not tracking.database.is_file():
        words = f"{tracking.database.relative_to(paths.root())} is gone; {len(published)} models were registered in it"
        yield Finding(MLFLOW, "MLflow", words, RESTORE, broken=False)
        return
    client = tracking.client()
    known: dict[str, str] = {}
    held: dict[str, str] = {}
    with told(tracking.tracking_uri, "say which versions it has"):
        versions = client.search_model_versions()
    for version in versions:
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
        known[row_id], held[f"models:/{version.name}/{version.version}"] = name, row.version
        if (tag := version.tags.get("dvc.md5")) != row.version:
            yield Finding(
                MLFLOW, name, f"has the tag dvc.md5 {tag}, row {row.id} says {row.version}", "correct the tag"
            )
        yield from _files(client, version, name, row)
    for row_id in [row_id for row_id in published if row_id not in known]:
        row, reference = current.row_of_id(row_id), published[row_id]
        if row is None:
            continue
        if held.get(reference) == row.version:  # made again with equal bytes: one version stands for both rows
            known[row_id] = f"MLflow {reference}"
        elif _is_newest(current, row):
            yield Finding(
                MLFLOW, reference, f"is not in MLflow, row {row_id} was registered as it", RESTORE, broken=False
            )
    with told(tracking.tracking_uri, "say which models it has"):
        models = client.search_registered_models()
    yield from _aliases(current, models, known)


def _aliases(current: Current, models: Iterable[RegisteredModel], known: Mapping[str, str]) -> Iterator[Finding]:
    """An alias that people were promised points to what was promoted."""
    aliases = {model.name: model.aliases for model in models}
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
    made = _made(current)
    tags = newest_tags(instance)
    rows = current.ledger.versions(found[ROW_TAG] for found in tags.values() if ROW_TAG in found)
    for (asset, shard), found in tags.items():
        yield from _tags(f"Dagster {name_of(asset, shard)}", found, rows)
    counts = Counter(asset for asset, _ in made)
    for asset, lacking in Counter(asset for asset, shard in made if (asset, shard) not in tags).items():
        words = f"has no event for {lacking} of {counts[asset]} that were made"
        yield Finding(DAGSTER, f"Dagster {asset}", words, RESTORE, broken=False)


def _made(current: Current) -> list[tuple[str, str | None]]:
    """The artifacts of the current preset, and the base weights, that lie in `data/`."""
    newest = [each.row for folder, each in current.everything.items() if (paths.data() / folder).is_dir()]
    preset = current.pipeline.preset.name
    found = current.ledger.query(
        lambda rows: rows.filter(among("id", newest)).select("preset", "asset", "shard", "folder")
    )
    ours = (pl.col("preset") == preset) | (pl.col("folder") == pl.col("asset"))  # base weights are everybody's
    return list(found.filter(ours).select("asset", "shard").unique().sort("asset", "shard").iter_rows())


def _tags(what: str, found: Mapping[str, str], rows: Mapping[str, str]) -> Iterator[Finding]:
    row_id, version = found.get(ROW_TAG), found.get(DATA_VERSION_TAG)
    if row_id is None:
        words = "has an event that names no ledger row"
        yield Finding(DAGSTER, what, words, "make it with `orbitforge run`", broken=False)
    elif row_id not in rows:
        yield Finding(DAGSTER, what, f"names ledger row {row_id}, which is not in the ledger", GONE)
    elif version != rows[row_id]:
        yield Finding(DAGSTER, what, f"has data version {version}, row {row_id} says {rows[row_id]}", RESTORE)
