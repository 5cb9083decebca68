"""Fingerprints of files."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_md5(path: Path) -> str:
    """The md5 that DVC knows the file by; memory does not grow with it. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
