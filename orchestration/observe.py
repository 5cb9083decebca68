"""Telling Dagster which shards exist and which version of the sources stands there."""

from __future__ import annotations

import dagster as dg

from orchestration.pipeline import Pipeline
from orchestration.presets.schema import Preset
from orchestration.steps import DATA_VERSION_TAG, Report, Source
from orchestration.telling import tell, telling


def partition_set(preset: Preset, table: str) -> str:
    """The name under which Dagster keeps the shards of a source table; each preset has its own set."""
    return f"{preset.name}-{table}"


def observe_sources(instance: dg.DagsterInstance, pipeline: Pipeline, report: Report = lambda event: None) -> None:
    """Register new shards and report every source version that Dagster does not know yet; `report` hears how many."""
    with telling():
        for name, shards in new_shards(instance, pipeline).items():
            instance.add_dynamic_partitions(name, shards)
        new = new_versions(instance, pipeline)
        tell(instance, new, lambda count: report({"step": count, "of": len(new)}))


def new_shards(instance: dg.DagsterInstance, pipeline: Pipeline) -> dict[str, list[str]]:
    """Partition set -> shards of its source table that Dagster does not know. Shards are never taken away."""
    found: dict[str, list[str]] = {}
    for source in _read(pipeline):
        if source.table:
            name = partition_set(pipeline.preset, source.table)
            known = set(instance.get_dynamic_partitions(name))
            if new := [shard for shard in pipeline.shards(source) if shard and shard not in known]:
                found[name] = new
    return found


def new_versions(instance: dg.DagsterInstance, pipeline: Pipeline) -> list[dg.AssetObservation]:
    """One observation for each shard of a source whose version differs from the one Dagster saw last."""
    return [
        observation(source, shard, version)
        for source in _read(pipeline)
        for known in [_known(instance, source)]
        for shard, version in pipeline.observe(source).items()
        if known.get(shard) != version
    ]


def observation(source: Source, shard: str | None, version: str) -> dg.AssetObservation:
    return dg.AssetObservation(source.name, partition=shard, tags={DATA_VERSION_TAG: version})


def _read(pipeline: Pipeline) -> list[Source]:
    """The sources that some step reads."""
    read = {name for step in pipeline.steps for name in step.reads}
    return [source for source in pipeline.sources if source.name in read]


def _known(instance: dg.DagsterInstance, source: Source) -> dict[str | None, str]:
    key = dg.AssetKey(source.name)
    if source.shards:
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            key, event_type=dg.DagsterEventType.ASSET_OBSERVATION, tag_keys=[DATA_VERSION_TAG]
        )
        return {shard: found.get(DATA_VERSION_TAG, "") for shard, found in tags.items()}
    records = instance.fetch_observations(key, limit=1).records
    observation = records[0].asset_observation if records else None
    return {None: (observation.tags or {}).get(DATA_VERSION_TAG, "")} if observation else {}
