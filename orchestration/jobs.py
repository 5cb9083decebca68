"""Jobs: one for each group of assets, and the whole chain."""

from typing import TYPE_CHECKING

import dagster as dg

from orchestration import pipeline
from orchestration.assets.declare import OWNERS
from orchestration.chain import job_name, run_chain
from orchestration.resources.runs import free_dead_runs

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

RETRY_DEAD = {"dagster/max_retries": "2"}
"""A run whose process died is started again (see dagster.yaml) and goes on from its scratch folder."""


def group_jobs() -> "list[UnresolvedAssetJobDefinition]":
    """One job for each group; launch it over a range of shards where it has partitions."""
    here = pipeline.current()
    names = dict.fromkeys(step.group for step in here.steps)
    return [
        dg.define_asset_job(
            job_name(name, here),
            selection=dg.AssetSelection.groups(name),
            description=f"Everything in the group {name}.",
            # light steps share one process: the imports alone cost seconds each
            executor_def=dg.in_process_executor,
            tags=RETRY_DEAD,
            owners=OWNERS,
        )
        for name in names
    ]


@dg.op(description="Runs each group that is stale, in order; a run for each appears beside this one.")
def run_stale_groups(context: dg.OpExecutionContext) -> None:
    from orchestration.definitions import defs
    from orchestration.lineage.reconcile import reconcile

    for finding in reconcile(pipeline.current(), context.instance):
        context.log.info(f"put right: {finding}")
    free_dead_runs(context.instance)
    parts = run_chain(
        defs,
        context.instance,
        pipeline.current(),
        tags={"orbitforge/chain": context.run_id},
        announce=lambda part, run_id: context.log.info(f"{part.group}: {', '.join(part.assets)} in run {run_id}"),
    )
    if not parts:
        context.log.info("nothing is stale")


@dg.job(
    description="The whole chain: whatever is stale, group by group.",
    executor_def=dg.in_process_executor,
    owners=OWNERS,
)
def chain() -> None:
    run_stale_groups()
