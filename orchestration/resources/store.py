"""DVC, as much of it as we use: where the cache is, which remotes there are, fetching and publishing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def cache_dir() -> Path:
    """The folder of cache objects, `<it>/ab/cdef...` by md5; from `.dvc/config`, without importing DVC."""
    raise NotImplementedError


def remotes() -> dict[str, str]:
    """Name -> url as `.dvc/config` and `.dvc/config.local` give them."""
    raise NotImplementedError


def pull(targets: Sequence[str], remote: str | None = None) -> int:
    """Fetch `targets` (paths such as `data/source`) and put them in place; returns how many files came.

    Raises OrbitforgeError for a remote that is not configured or lacks the data.
    """
    raise NotImplementedError
