"""materialise(): the one place where an artifact becomes real."""

from __future__ import annotations

from collections.abc import Callable
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
) -> dg.MaterializeResult:
    """Make what is stale of `step`: the run's partition keys if it has them, else every shard, or the whole asset.

    Use it as the body of an asset:

        @dg.asset(name=STEP.name, deps=[...], partitions_def=..., code_version=step_version(STEP, preset))
        def rendered_views(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            return materialise(context, STEP, make)

    What the ledger already holds (same inputs, code and config) is not made again, only put back in place. A shard
    that fails leaves its neighbours alone; at the end one OrbitforgeError names all that failed. Partitioned assets get
    one event per shard with its own data version; the result then adds no event of its own.
    """
    raise NotImplementedError
