"""Which part of the source tables a preset uses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SourceConfig(BaseModel):
    """The source tables and how much of them to take; null takes all.

    The limits choose rows, and a shard's version is the hash of its own rows: raising a limit makes exactly
    the shards stale that gain rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field("source", description="below data/: objects.parquet, prompts.parquet and their meshes")
    object_shards: int | None = Field(None, ge=1, description="take the first shards of objects")
    objects_per_shard: int | None = Field(None, ge=1)
    prompt_shards: int | None = Field(None, ge=1, description="take the first shards of prompts")
    prompts_per_shard: int | None = Field(None, ge=1)
