"""Versions of code, configuration and data: equal exactly when the bytes that matter are equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from orchestration.presets.schema import Preset
    from orchestration.steps import Step


def code_modules(modules: Iterable[str]) -> dict[str, str]:
    """Module name -> hash of its source, for `modules` and every first-party module they import, also in functions.

    Comments, docstrings and blank lines do not count. Reads files, imports nothing. Raises OrbitforgeError for a
    module that does not exist or does not parse.
    """
    raise NotImplementedError


def code_version(modules: Iterable[str]) -> str:
    """One hash over `code_modules(modules)`."""
    raise NotImplementedError


def config_of(preset: Preset, sections: Iterable[str]) -> dict[str, Any]:
    """The resolved values of some sections, as JSON types: `{"video": {"steps": 3, ...}}`."""
    raise NotImplementedError


def config_hash(preset: Preset, sections: Iterable[str]) -> str:
    raise NotImplementedError


def step_version(step: Step, preset: Preset) -> str:
    """Code, config and seed of a step in one string: what to give to `@dg.asset(code_version=...)`."""
    raise NotImplementedError


def file_md5(path: Path) -> str:
    raise NotImplementedError


def tree_version(md5s: Mapping[str, str]) -> str:
    """DVC's `.dir` hash of a folder with these files (relative posix path -> md5)."""
    raise NotImplementedError


def data_version(path: Path) -> str:
    """md5 of a file; of a folder exactly the hash that DVC gives to that subtree (`<md5>.dir`)."""
    raise NotImplementedError


def rows_version(rows: pl.DataFrame) -> str:
    """The version of a source shard: a hash of its rows, whatever their order or file."""
    raise NotImplementedError


def asset_seed(root_seed: int, asset: str) -> int:
    raise NotImplementedError


def environment() -> dict[str, str]:
    """Python, platform and the versions of the libraries that can change bytes; imports none of them."""
    raise NotImplementedError


@dataclass(frozen=True)
class GitState:
    """`commit` is None outside git; `diff` is a hash when tracked files other than data.dvc are dirty."""

    commit: str | None
    diff: str | None


def git_state() -> GitState:
    raise NotImplementedError
