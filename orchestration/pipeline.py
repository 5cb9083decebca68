"""The pipeline as a whole: one preset, its steps, and the shards that the source tables hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from orchestration.steps import SOURCES, Source, Step

if TYPE_CHECKING:
    import polars as pl

    from orchestration.presets.schema import Preset


@dataclass(frozen=True)
class Pipeline:
    """What staleness, the seam and the command line work on.

    `preset` needs: `name: str`, `seed: int`, `source: SourceConfig` and the sections that steps name.
    """

    preset: Preset
    steps: tuple[Step, ...]
    sources: tuple[Source, ...] = SOURCES

    def find(self, name: str) -> Step | Source:
        """The step or source of that name. Raises OrbitforgeError, naming what exists."""
        raise NotImplementedError

    def table(self, name: str) -> pl.DataFrame:
        """The rows of the source table `name` ("objects", "prompts") that the preset uses."""
        raise NotImplementedError

    def shards(self, of: Step | Source) -> list[str | None]:
        """The shards that should exist now, sorted; [None] for what is not partitioned."""
        raise NotImplementedError


@cache
def current() -> Pipeline:
    """The pipeline of this process: preset `ORBITFORGE_PRESET` (default "tiny") and every `STEP` in
    orchestration/assets/*.py, sorted so that a step comes after what it reads.
    """
    raise NotImplementedError
