"""What one step of the pipeline is, in a form that staleness, the seam and Dagster all read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestration.presets.schema import Preset

DATA_VERSION_TAG, ROW_TAG = "dagster/data_version", "orbitforge/row"
"""Tags of Dagster's events that say which version was made and by which row of the ledger."""

POINTS = "points"
"""The shards of what is cut by the grid of the preset's section `scaling`, not by a source table."""

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Step:
    """One asset: its inputs, the code and configuration that decide its bytes, and how it is cut into shards.

    `code` names the modules of the stage; the first-party modules that they import count too.
    `config` names the preset sections that the stage reads.
    `shards` names the source table whose `shard` column partitions the asset ("objects", "prompts"), is POINTS or
    None.
    `reads` are versioned inputs; `files` are partitioned assets whose folders are linked in as well, because a
    manifest in `reads` already pins their md5s.
    `kind` is "shards", "table" or "model"; models are registered in MLflow.
    `unit` is what the stage's reports count. A shard that runs `models` gets a GPU to itself where there are some.
    `job` is "chain", "flexiview" for the branch of many input views, "study" for experiments, both made on demand, or
    "base" for weights that are shipped and made again only on demand: these lie in `data/<name>/`, shared by all
    presets.
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
    unit: str = "steps"
    models: bool = False

    def folder(self, preset: str, shard: str | None = None) -> str:
        """Where the artifact lies below `data/`: `tiny/rendered_views/000`, `tiny/video_model`, `base_models`."""
        home = self.name if self.job == "base" else f"{preset}/{self.name}"
        return home if shard is None else f"{home}/{shard}"


@dataclass(frozen=True)
class Source:
    """An asset that is observed, never made: a source table (partitioned by its `shard` column) or a folder.

    A shard of a table reaches a stage as a folder with `<table>.parquet` (the shard's rows alone) and the files that
    its `file` column names, at those relative paths (`meshes/x.glb`). A folder reaches it as it is.
    """

    name: str
    table: str | None = None
    folder: str | None = None

    @property
    def shards(self) -> str | None:
        return self.table


SOURCES = (
    Source("source_objects", table="objects"),
    Source("prompts", table="prompts"),
    Source("human_labels", folder="human_labels"),
)


@dataclass(frozen=True)
class Work:
    """What a stage gets: where to read, where to write, and what decides the bytes.

    `inputs` maps each name in `reads` and `files` to a read-only folder: the artifact's own files, or, when an
    unpartitioned step reads a partitioned asset, one sub-folder per shard. (A source table that an unpartitioned step
    reads is one folder: all rows of the preset in one parquet file.)
    `scratch` is the resumable state of exactly these inputs, code and config; it survives a kill. What a stage writes
    to `scratch/"preview"` (*.png, *.md) is shown in Dagster and is no part of the artifact.
    `report` takes `{"step": 10, "of": 300, "loss": 0.1}` or `{"message": ...}`; what it gets under "metrics" (a flat
    dict of numbers) goes into the ledger row and into Dagster's metadata.
    `seed` is derived from (root seed, asset); seeds of samples are derived from it and the sample's id.
    `versions` says which version of each input (`video_model`, `prompts[000]`) is read.
    """

    asset: str
    shard: str | None
    inputs: dict[str, Path]
    output: Path
    scratch: Path
    preset: Preset
    seed: int
    report: Report
    versions: dict[str, str] = field(default_factory=dict)
    loggers: list[Any] = field(default_factory=list)


Make = Callable[[Work], None]
"""A stage seen from here: top-level (it is pickled by name), imports its stage inside."""
