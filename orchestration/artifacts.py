"""materialise(): the one place where an artifact becomes real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from orchestration.pipeline import Pipeline
from orchestration.steps import Make, Step

if TYPE_CHECKING:
    import dagster as dg

Listener = Callable[[str, str | None, dict[str, Any]], None]

LISTENERS: list[Listener] = []
"""Called in the main process with (asset, shard, event) for every report of a stage: progress bars hang here."""


def materialise(
    context: dg.AssetExecutionContext, step: Step, make: Make, *, pipeline: Pipeline | None = None
) -> Iterator[dg.MaterializeResult]:
    """Make what is stale of `step`: the run's partition keys if it has them, else every shard, or the whole asset.

    Use it as the body of an asset:

        @dg.asset(name=STEP.name, deps=[...], partitions_def=..., code_version=step_version(STEP, preset))
        def rendered_views(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
            yield from materialise(context, STEP, make)

    A generator, because of what Dagster 1.13 does (each was run): an asset that yields nothing makes Dagster skip
    all that is downstream of it in the same run; a MaterializeResult in a run over several partition keys becomes one
    event for each key, all with the same data version, after the yield. So: one key: yield its result. Several
    keys: log_event() for each shard as it is done, yield one result, then log_event() for each shard once more;
    the last event wins. Shards' events carry provenance tags (`dagster/input_data_version/<dep>`,
    `dagster/input_event_pointer/<dep>`), else Dagster calls them stale. Runs of partitioned assets always have
    keys (range tags; `context.partition_keys`): without keys Dagster fails at an edge between two partitioned assets.

    What the ledger already holds (same inputs, code and config) is not made again, only put back in place. A shard
    that fails leaves its neighbours alone; at the end one OrbitforgeError names all that failed. Partitioned assets get
    one event per shard with its own data version; the result then adds no event of its own.
    """
    raise NotImplementedError
