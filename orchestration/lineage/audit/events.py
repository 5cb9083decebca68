"""The tags of Dagster's newest event of each artifact.

Out of its own SQLite file where it has one: through its API ten thousand events take seconds, its import takes another,
and an audit should not depend on the code that wrote what it audits. Other databases are asked through the API.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from orchestration import paths

if TYPE_CHECKING:
    import dagster as dg

Tags = Mapping[str, str]
Artifact = tuple[str, str | None]

_NEWEST = """
    SELECT asset_key, partition, json_extract(event, '$.dagster_event.event_specific_data.materialization.tags')
    FROM event_logs WHERE id IN (
        SELECT max(id) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY asset_key, partition
    )
"""


def newest_tags(instance: dg.DagsterInstance | None = None) -> dict[Artifact, Tags]:
    """(asset, shard) -> tags. `instance` is asked instead of the project's own."""
    index = paths.dagster_home() / "history" / "runs" / "index.db"
    if instance is None and index.is_file() and _is_default():
        try:
            return _from_file(index)
        except (sqlite3.Error, TypeError, ValueError):  # another version of Dagster keeps it elsewhere
            pass
    return _from_api(instance)


def _is_default() -> bool:
    """Whether dagster.yaml leaves the events in files below the home."""
    settings = yaml.safe_load((paths.dagster_home() / "dagster.yaml").read_text()) or {}
    return not {"storage", "event_log_storage"} & settings.keys()


def _from_file(index: Path) -> dict[Artifact, Tags]:
    with closing(sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True)) as database:
        return {
            ("/".join(json.loads(key)), shard): json.loads(tags or "{}")
            for key, shard, tags in database.execute(_NEWEST)
        }


def _from_api(instance: dg.DagsterInstance | None) -> dict[Artifact, Tags]:
    from contextlib import nullcontext

    from orchestration.home import open_instance
    from orchestration.publish import known_tags

    with nullcontext(instance) if instance else open_instance() as here:
        assets = [key.to_user_string() for key in here.all_asset_keys()]
        return {(asset, shard): tags for asset in assets for shard, tags in known_tags(here, asset).items()}
