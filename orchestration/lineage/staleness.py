"""What is fresh, and why the rest is not: from the ledger and the current versions alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestration.pipeline import Pipeline

FRESH, STALE, MISSING, FAILED, RUNNING = "fresh", "stale", "missing", "failed", "running"


@dataclass
class ShardStatus:
    """`why` gives the reasons in words; it is empty when fresh. `version` is what `data/` holds, None if missing."""

    asset: str
    shard: str | None
    status: str
    version: str | None
    why: list[str] = field(default_factory=list)


@dataclass
class AssetStatus:
    asset: str
    status: str
    version: str | None
    why: list[str]
    shards: list[ShardStatus]

    def as_json(self) -> dict[str, Any]:
        """`{"asset", "status", "data_version", "why", "shards": {"total", "fresh", "stale", "missing", "failed"}}`."""
        raise NotImplementedError


def status(pipeline: Pipeline) -> list[AssetStatus]:
    """Every step in the order of the pipeline. Steps of the job "base" do not pass their staleness on."""
    raise NotImplementedError
