"""Which part of the source tables a preset uses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class SourceConfig(BaseModel):
    """The source tables and how much of them to take; None takes all.

    The limits choose rows, and a shard's version is the hash of its own rows: raising a limit makes exactly
    the shards stale that gain rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = "source"
    """Below `data/`: holds objects.parquet, prompts.parquet and the meshes that they name."""
    object_shards: PositiveInt | None = None
    objects_per_shard: PositiveInt | None = None
    prompt_shards: PositiveInt | None = None
    prompts_per_shard: PositiveInt | None = None
