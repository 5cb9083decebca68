"""Sensors: what the daemon watches."""

import dagster as dg

from orchestration import pipeline
from orchestration.observe import new_shards, new_versions


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers the shards that source tables gained, and reports the versions that changed.",
)
def source_tables(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    here = pipeline.current()
    shards = new_shards(context.instance, here)
    versions = new_versions(context.instance, here)
    if not shards and not versions:
        return dg.SkipReason("the source tables stand as they were")
    return dg.SensorResult(
        dynamic_partitions_requests=[dg.AddDynamicPartitionsRequest(name, new) for name, new in shards.items()],
        asset_events=versions,
    )
