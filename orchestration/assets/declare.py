"""What every asset has in common: the policy of the house, in one place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration.errors import OrbitforgeError
from orchestration.lineage.accepted import Accepted
from orchestration.observe import partition_set
from orchestration.presets.schema import current_preset
from orchestration.steps import POINTS, Step
from orchestration.versions import code_and_config, code_version, config_hash, step_version
from stages.objects.sources import OBJECTS, PROMPTS
from stages.scaling.points import keys

warnings.filterwarnings("ignore", category=dg.BetaWarning)  # backfill policies, observed sources: a line for each use

OWNERS = ["team:data-engine"]
DEVICE = "device"
"""The pool of what fills a device: trainings and generation, one at a time."""

Events = Iterator[dg.AssetMaterialization | dg.MaterializeResult]
"""What an asset yields: an event for each artifact as soon as it is real, and a result at the end."""

PARTITIONS: dict[str, dg.PartitionsDefinition] = {
    table: dg.DynamicPartitionsDefinition(name=partition_set(current_preset(), table)) for table in (OBJECTS, PROMPTS)
}
"""Shards are data: the keys come from the `shard` column of the source table. Points are the preset's."""
PARTITIONS[POINTS] = dg.StaticPartitionsDefinition(keys(current_preset().scaling.grid))


def declared(step: Step, *, kinds: set[str], pool: str | None = None) -> dict[str, Any]:
    """The arguments of `@dg.asset` that follow from the step."""
    return {
        "name": step.name,
        "group_name": step.group,
        "kinds": kinds,
        "owners": OWNERS,
        "deps": list(step.reads),
        "partitions_def": PARTITIONS[step.shards] if step.shards else None,
        # all shards in one run: a run of its own for each shard would cost a second or two each
        "backfill_policy": dg.BackfillPolicy.single_run() if step.shards else None,
        "code_version": _code_version(step),
        "pool": pool,
    }


def _code_version(step: Step) -> str:
    """As the events have it: code that was accepted goes by the name of the code that it stands for."""
    code, config = code_version(step.code), config_hash(current_preset(), step.config)
    try:
        return code_and_config(Accepted().first(step.name, code, config), config)
    except OrbitforgeError:  # no project here, or a ledger that commands will refuse
        return step_version(step, current_preset())
