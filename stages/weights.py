"""Finds the weights that a preset names, and makes sure that they are the ones it means."""

from __future__ import annotations

from pathlib import Path

from stages.config import WeightsConfig
from stages.errors import InputError
from stages.hashing import file_md5


def find_weights(config: WeightsConfig, name: str) -> Path:
    """The weights file at `config.at`: that file, `name` in that folder, or `name` of a repository in the hub's cache.

    Nothing is downloaded. Raises InputError when it is not there, or has another md5 than the preset says.
    """
    path = Path(config.at).expanduser()
    if path.is_dir():
        path = path / name
    elif not path.exists():
        path = _cached(config.at, name)
    if not path.is_file():
        raise InputError(f"{path} is missing: the preset names {config.at} for weights; put them there")
    if (md5 := file_md5(path)) != config.md5:
        raise InputError(f"{path} has md5 {md5}, the preset says {config.md5}; name the one that you mean")
    return path


def _cached(repository: str, name: str) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, name)
    except HFValidationError:
        found = None
    if not isinstance(found, str):
        raise InputError(
            f"{repository} is neither a path on this disk nor in the hub's cache with its {name}; "
            f"fetch it with `hf download {repository}`"
        )
    return Path(found)
