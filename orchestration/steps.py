"""What one step of the pipeline is, in a form that staleness, the seam and Dagster all read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.presets.schema import Preset

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Step:
    """One asset: its inputs, the code and configuration that decide its bytes, and how it is cut into shards.

    `code` names the modules of the stage; the first-party modules that they import count too.
    `config` names the preset sections that the stage reads.
    `shards` names the source table whose `shard` column partitions the asset ("objects", "prompts") or is None.
    `reads` are versioned inputs; `files` are partitioned assets whose folders are linked in as well, because a
    manifest in `reads` already pins their md5s.
    `kind` is "shards", "table" or "model"; models are registered in MLflow.
    `job` is "chain", or "base" for weights that are shipped and made again only on demand.
    """

    name: str
    reads: tuple[str, ...]
    config: tuple[str, ...]
    code: tuple[str, ...]
    group: str
    kind: str
    shards: str | None = None
    files: tuple[str, ...] = ()
    job: str = "chain"


@dataclass(frozen=True)
class Work:
    """What a stage gets: where to read, where to write, and what decides the bytes. Picklable but for `loggers`."""

    asset: str
    shard: str | None
    inputs: dict[str, Path]
    output: Path
    scratch: Path
    preset: Preset
    seed: int
    report: Report
    loggers: list[Any] = field(default_factory=list)
