"""Who decided something."""

from __future__ import annotations

import subprocess

from orchestration import paths
from orchestration.errors import OrbitforgeError


def named_person(by: str | None) -> str:
    """`by`, else the name and address that git would sign with. Raises OrbitforgeError when there is neither."""
    if by and by.strip():
        return by.strip()
    found = [_git("user.name"), _git("user.email")]
    if not found[0]:
        raise OrbitforgeError("nobody is named: give --by NAME, or set `git config user.name`")
    return f"{found[0]} <{found[1]}>" if found[1] else found[0]


def given_reason(reason: str) -> str:
    """Raises OrbitforgeError for an empty one."""
    if not reason.strip():
        raise OrbitforgeError("--reason is empty; say why in words, it stands in the lineage for good")
    return reason.strip()


def _git(key: str) -> str:
    try:
        done = subprocess.run(["git", "config", key], cwd=paths.root(), capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
