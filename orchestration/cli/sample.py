"""The sample data: fetched once, from the remote that lies in the repository."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from orchestration import paths
from orchestration.cli.progress import working
from orchestration.errors import plain_errors
from orchestration.resources.store import pull, recorded
from orchestration.shipping import EXAMPLE, PROVENANCE, REMOTE, SHIPPED


def fetch_sample(console: Console) -> None:
    """Fetch those shipped folders that are missing; does nothing, and imports no DVC, when all are there.

    Folders that are there are left alone, whoever changed them. Raises OrbitforgeError when the remote lacks them.
    """
    if not (paths.root() / "data.dvc").is_file():
        return
    unfinished = paths.work() / "fetching-sample"
    missing = [name for name in SHIPPED if unfinished.exists() or not (paths.data() / name).is_dir()]
    known = recorded()
    # a pointer that came with git names a list that this cache may not have yet, and DVC cannot add to it then
    if not missing and not known:
        pull(["data/source"], REMOTE, place=False)
        known = recorded()
    missing += [name for name in (EXAMPLE, PROVENANCE) if _names(known, name) and not (paths.data() / name).is_dir()]
    if not missing:
        return
    with plain_errors("fetching the sample data"):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        if "source" in missing:
            console.print(f"fetching the sample data from the DVC remote {REMOTE!r}")
            with working(console, "fetching"):
                pull(["data/source"], REMOTE)
        # only now the list of what data.dvc names is sure to be in the cache
        known = recorded()
        asked = dict.fromkeys((*missing, EXAMPLE, PROVENANCE))
        rest = [name for name in asked if name != "source" and _names(known, name)]
        if rest:
            with working(console, "fetching"):
                pull([f"data/{name}" for name in rest], REMOTE)
        unfinished.unlink()


def _names(known: Mapping[str, str], name: str) -> bool:
    """Whether `data.dvc` names files below data/<name>/."""
    return any(path.startswith(f"{name}/") for path in known)
