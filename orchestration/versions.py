"""Versions of configuration and data, and the facts beside them: equal exactly when the bytes that matter are equal."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.lineage.code import code_modules, code_version
from orchestration.memo import FileMemo
from stages import hashing

if TYPE_CHECKING:
    import polars as pl

    from orchestration.presets.schema import Preset
    from orchestration.steps import Step

__all__ = [
    "GitState",
    "asset_seed",
    "code_and_config",
    "code_modules",
    "code_version",
    "config_hash",
    "config_of",
    "data_version",
    "digest",
    "environment",
    "file_md5",
    "git_state",
    "rows_version",
    "step_version",
    "tree_version",
]

TOOLS = frozenset({"dagster", "dvc", "mlflow", "cpu"})
"""Facts of an environment that do not decide whether the same is made: the tools around the stages, and the CPU, which
can change the last bits of floating point and nothing else."""
LIBRARIES = (
    *("torch", "torchvision", "lightning", "diffusers", "transformers", "open-clip-torch", "safetensors"),
    *("numpy", "numba", "polars", "pillow", "av", "scikit-image", "scikit-learn", "trimesh"),
    *("dagster", "dvc", "mlflow"),
)


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


# configuration


def config_of(preset: Preset, sections: Iterable[str]) -> dict[str, Any]:
    """The root seed and the resolved values of some sections, as JSON: `{"seed": 0, "video": {"steps": 3, ...}}`."""
    return {"seed": preset.seed, **preset.resolved(*sections)}


def config_hash(preset: Preset, sections: Iterable[str]) -> str:
    return digest(config_of(preset, sections))[:32]


def step_version(step: Step, preset: Preset) -> str:
    """Code and config of a step in one string: what to give to `@dg.asset(code_version=...)`."""
    return code_and_config(code_version(step.code), config_hash(preset, step.config))


def code_and_config(code: str, config: str) -> str:
    return f"{code[:12]}-{config[:12]}"


def asset_seed(root_seed: int, asset: str) -> int:
    """The seed that all random numbers of an asset derive from; below 2**63."""
    return int.from_bytes(hashlib.sha256(f"{root_seed}/{asset}".encode()).digest()[:8], "little") >> 1


# data


def file_md5(path: Path) -> str:
    """The md5 of a file, computed again only when it changed."""
    return _md5s(path, hashing.file_md5)


def tree_version(md5s: Mapping[str, str]) -> str:
    """DVC's `.dir` hash of a folder with these files (relative posix path -> md5)."""
    entries = [{"md5": md5s[path], "relpath": path} for path in sorted(md5s)]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def data_version(path: Path) -> str:
    """md5 of a file; of a folder exactly the hash that DVC gives to that subtree (`<md5>.dir`).

    Raises OrbitforgeError when there is nothing at `path`.
    """
    if path.is_file():
        return file_md5(path)
    if not path.is_dir():
        raise OrbitforgeError(f"{path} is missing; fetch it with `dvc pull` or make it")
    files = (file for file in path.rglob("*") if file.is_file())
    return tree_version({file.relative_to(path).as_posix(): file_md5(file) for file in files})


def rows_version(rows: pl.DataFrame) -> str:
    """The version of a source shard: a hash of its rows, whatever their order or file."""
    from stages.objects.sources import rows_version as version

    return version(rows)


# where and by what it was made


@cache
def environment() -> dict[str, str]:
    """Python, platform, CPU and the versions of the libraries that can change bytes; imports none of them."""
    facts = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "cpu": _cpu(),
    }
    for library in LIBRARIES:
        try:
            facts[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return facts


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


@dataclass(frozen=True)
class GitState:
    """`commit` is None outside git; `diff` is a hash when tracked files other than data.dvc are dirty."""

    commit: str | None
    diff: str | None


def git_state() -> GitState:
    def git(*arguments: str) -> bytes | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=paths.root(), capture_output=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    diff = git("diff", "HEAD", "--binary", "--", ".", ":!data.dvc") if commit else None
    return GitState(
        commit=commit.decode().strip() if commit else None,
        diff=hashlib.sha256(diff).hexdigest() if diff else None,
    )


_md5s = FileMemo("md5")
