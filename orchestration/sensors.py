"""Sensors: what the daemon watches."""

import dagster as dg

from orchestration import pipeline
from orchestration.assets.freshness import NAME, verdict
from orchestration.jobs import chain
from orchestration.lineage.staleness import status
from orchestration.lineage.unread import unread
from orchestration.observe import new_shards, new_versions
from orchestration.versions import digest


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


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Shows what is stale and why, in the check `fresh` of each asset; says nothing while nothing changes.",
)
def staleness(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    states = status(pipeline.current())
    seen = digest([[state.asset, state.status, state.version, state.why] for state in states])
    if context.cursor == seen:
        return dg.SkipReason("as it was")
    return dg.SensorResult(
        asset_events=[
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey(state.asset), check_name=NAME, **verdict(state))
            for state in states
        ],
        cursor=seen,
    )


@dg.sensor(
    job=chain,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Runs the chain when sources hold objects, prompts or labels that nothing was made of yet.",
)
def new_data(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    waiting = unread(pipeline.current())
    if not waiting:
        return dg.SkipReason("everything was made of the sources as they stand")
    # the same versions are asked for once: neither unchanged data nor a failure starts another run
    return dg.RunRequest(run_key=digest(waiting)[:32])
