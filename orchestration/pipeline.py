"""The pipeline as a whole: one preset, its steps, and the shards that the source tables hold."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.withdrawn import held, withdrawals, without
from orchestration.memo import FileMemo
from orchestration.steps import POINTS, SOURCES, Source, Step
from orchestration.versions import data_version, digest, rows_version
from stages.scaling.points import keys

if TYPE_CHECKING:
    import polars as pl

    from orchestration.presets.schema import Preset
    from stages.objects.config import SourceConfig


@dataclass(frozen=True)
class Pipeline:
    """What staleness, the seam and the command line work on. A step comes after what it reads."""

    preset: Preset
    steps: tuple[Step, ...]
    sources: tuple[Source, ...] = SOURCES

    def find(self, name: str) -> Step | Source:
        """The step or source of that name. Raises OrbitforgeError, naming what exists."""
        if name not in self._named:
            raise OrbitforgeError(f"no asset {name!r}; choose one of {', '.join(self._named)}")
        return self._named[name]

    def table(self, name: str) -> pl.DataFrame:
        """The rows of the source table `name` ("objects", "prompts") that the preset uses and nobody withdrew.

        Raises SourceError, naming the file, when there is no such table or it cannot be used.
        """
        table, gone = self.whole_table(name), withdrawals()
        return without(table, gone) if gone else table

    def whole_table(self, name: str) -> pl.DataFrame:
        """The same with what was withdrawn."""
        path = self._table_file(name)
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return _table(paths.data(), self.preset.source, name, changed)  # pyright: ignore[reportArgumentType]  # frozen

    def shards(self, of: Step | Source) -> tuple[str | None, ...]:
        """The shards that should exist now, sorted; (None,) for what is not partitioned."""
        if of.shards == POINTS:
            return tuple(keys(self.preset.scaling.grid))
        return tuple(sorted(self.table(of.shards)["shard"].unique())) if of.shards else (None,)

    def observe(self, source: Source) -> dict[str | None, str]:
        """The version of each shard of a source table (a hash of its rows), or of a source folder under None.

        A folder that is missing has no version: {}.
        """
        if source.table is None:
            folder = paths.data() / (source.folder or source.name)
            if not folder.is_dir():
                return {}
            version, gone = data_version(folder), held(folder, withdrawals())
            return {None: digest([version, gone])[:32] if gone else version}
        table = self.table(source.table)
        memo = _row_versions(digest([self.preset.resolved("source"), sorted(withdrawals())])[:12])
        return memo(
            self._table_file(source.table),
            lambda _: {str(shard): rows_version(rows) for (shard,), rows in table.group_by("shard")},
        )

    def _table_file(self, name: str) -> Path:
        return paths.data() / self.preset.source.folder / f"{name}.parquet"

    @cached_property
    def _named(self) -> dict[str, Step | Source]:
        return {each.name: each for each in (*self.sources, *self.steps)}


def sources_only() -> Pipeline:
    """The current preset without its steps, for what needs none: steps stand in modules that import Dagster."""
    from orchestration.presets.schema import current_preset

    return Pipeline(current_preset(), ())


def current() -> Pipeline:
    """The preset ORBITFORGE_PRESET and the `STEP` of each module in orchestration.assets."""
    from orchestration.presets.schema import current_preset

    return Pipeline(current_preset(), _steps())


@cache
def _steps() -> tuple[Step, ...]:
    from orchestration import assets

    names = (found.name for found in pkgutil.iter_modules(assets.__path__, f"{assets.__name__}."))
    modules = [importlib.import_module(name) for name in names]
    steps = [module.STEP for module in modules if isinstance(getattr(module, "STEP", None), Step)]
    return in_order(steps)


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps, each after what it reads."""
    left = {step.name: step for step in steps}
    ordered: dict[str, Step] = {}

    def add(step: Step) -> None:
        for name in (*step.reads, *step.files):
            if name in left and name not in ordered:
                add(left[name])
        ordered.setdefault(step.name, step)

    for step in left.values():
        add(step)
    return tuple(ordered.values())


@cache
def _row_versions(config: str) -> FileMemo:
    return FileMemo(f"rows-{config}")


@lru_cache(maxsize=8)
def _table(data: Path, config: SourceConfig, name: str, _changed: int) -> pl.DataFrame:
    from stages.objects.sources import read_table

    return read_table(data, config, name)
