"""The sample data: fetched once, from the remote that lies in the repository."""

from __future__ import annotations

from rich.console import Console

from orchestration import paths
from orchestration.errors import plain_errors
from orchestration.resources.store import pull, recorded
from orchestration.shipping import REMOTE, SHIPPED


def fetch_sample(console: Console) -> None:
    """Fetch those shipped folders that are missing; does nothing, and imports no DVC, when all are there.

    Folders that are there are left alone, whoever changed them. Raises OrbitforgeError when the remote lacks them.
    """
    unfinished = paths.work() / "fetching-sample"
    missing = [name for name in SHIPPED if unfinished.exists() or not (paths.data() / name).is_dir()]
    if not (paths.root() / "data.dvc").is_file():
        return
    if not missing:
        # a pointer that came with git names a list that this cache may not have yet, and DVC cannot add to it then
        if not recorded():
            pull(["data/source"], REMOTE, place=False)
        return
    with plain_errors("fetching the sample data"):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
        if "source" in missing:
            console.print(f"fetching the sample data from the DVC remote {REMOTE!r}")
            pull(["data/source"], REMOTE)
        # only now the list of what data.dvc names is sure to be in the cache
        known = {path.partition("/")[0] for path in recorded()}
        if rest := [f"data/{name}" for name in missing if name in known and name != "source"]:
            pull(rest, REMOTE)
        unfinished.unlink()
