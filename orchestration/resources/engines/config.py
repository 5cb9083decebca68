"""Where shards are made. No stage reads it: it changes no bytes and makes nothing stale."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EngineConfig(BaseModel):
    """`engine: ray` in a preset, or `engine: {name: ray, gpus: 1}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["local", "ray"] = Field(
        default="local", description="processes of this machine, or tasks of a Ray cluster"
    )
    workers: int | None = Field(
        default=None, gt=0, description="shards at once; null: 2 here (1 on one CPU), all that the cluster takes on Ray"
    )
    retries: int = Field(default=1, ge=0, description="further tries of a shard that failed, after the others")
    address: str | None = Field(
        default=None,
        description="of a Ray cluster (host:port, auto); null: RAY_ADDRESS, without it one is started here, loopback",
    )
    cpus: float = Field(default=1, ge=0, description="of a shard on Ray")
    gpus: float = Field(default=1, ge=0, description="of a shard that runs models, where there are GPUs")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value
