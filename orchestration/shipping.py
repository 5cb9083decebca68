"""What ships with the repository: the source data, the labels, the base weights, a reconstruction model, and their rows
of the ledger.

`python -m orchestration.shipping` (or `make ship`) makes `data.dvc` and the remote `sample` hold exactly that, ready to
be committed. What else lies in `data/` stays where it is and is recorded again by the next run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from orchestration import paths, pipeline
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, OBSERVED, Ledger, Row
from orchestration.lineage.record import closure
from orchestration.resources.store import object_path

SHIPPED = ("source", "human_labels", "base_models", "ledger")
"""Folders below data/. What else data.dvc names was made here or by a colleague."""
EXAMPLE = "furniture/lrm_finetuned"
"""The model that reconstructs where none was made yet; all rows above its own ship with it."""
PROVENANCE = "provenance"
"""Below data/: the source tables that the example was made of, so that a clone can tell whom it owes."""
REMOTE = "sample"
LARGEST = 64 << 20
"""Bytes of the remote `sample` over all history: it lies in git, and every clone carries it."""


def fresh_clone(folder: Path) -> Path:
    """A root in `folder` as a clone is after its first fetch: the shipped data, and nothing made.

    Files are linked where the file system allows; stages only read them.
    """
    root = paths.root()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "workspace.yaml", folder)
    shutil.copytree(root / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    (folder / "dvc-sample").symlink_to(root / "dvc-sample")
    for name in (*SHIPPED[:-1], EXAMPLE, PROVENANCE):
        if (root / "data" / name).is_dir():
            shutil.copytree(root / "data" / name, folder / "data" / name)
    rows = [Row.of(record) for record in shipped_rows(Ledger().read()).to_dicts()]
    Ledger(folder / "data" / "ledger").append(*rows)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def shipped_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest row of each artifact that ships, the rows of what it was made of, and all above the example's."""
    ships = [step.name for step in pipeline.current().steps if step.job == "base"]
    made = rows.filter(pl.col("asset").is_in(ships) & (pl.col("kind") == MADE)).unique("folder", keep="last")
    read = made["inputs"].explode().struct.field("row") if len(made) else pl.Series([], dtype=pl.String)
    example = [row.id for row in _example(Current(pipeline.current()))]
    return rows.filter(pl.col("id").is_in([*made["id"], *read.drop_nulls(), *example]))


def _example(current: Current) -> list[Row]:
    """The newest row of the example and every row above it."""
    newest = current.everything.get(EXAMPLE)
    row = newest and current.row_of_id(newest.row)
    return current.rows_of_ids(closure(current, row)["id"]) if row else []


def _keep_provenance() -> None:
    """Put the source tables above the example into data/, out of the cache."""
    folder = paths.data() / PROVENANCE
    for row in _example(Current(pipeline.current())):
        for file in row.files if row.kind == OBSERVED else ():
            if file.path.endswith(".parquet") and "/" not in file.path:
                folder.mkdir(exist_ok=True)
                shutil.copy(object_path(file.md5), folder / f"{row.asset}-{row.shard or 'all'}-{file.path}")


def ship() -> None:
    """Write `data.dvc` and fill the remote. Raises OrbitforgeError when something is missing or it grows too large."""
    root = paths.root()
    if missing := [name for name in SHIPPED if not (root / "data" / name).is_dir()]:
        raise OrbitforgeError(f"data/ lacks {', '.join(missing)}, which ship; make them first")
    paths.work().mkdir(exist_ok=True)
    if (root / "data" / EXAMPLE).is_dir():
        _keep_provenance()
    with tempfile.TemporaryDirectory(dir=paths.work()) as name:
        clone = fresh_clone(Path(name) / "clone")
        (clone / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {root / '.dvc' / 'cache'}\n")
        for arguments in (["add", "--quiet", "data"], ["push", "--quiet", "-r", REMOTE, "data"]):
            subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=clone, check=True)
        shutil.copy(clone / "data.dvc", root / "data.dvc")
    size = sum(file.stat().st_size for file in (root / "dvc-sample").rglob("*") if file.is_file())
    print(
        f"data.dvc names what ships; the remote {REMOTE!r} holds {size / 2**20:.1f} MiB: commit data.dvc and dvc-sample"
    )
    if size > LARGEST:
        raise OrbitforgeError(f"the remote {REMOTE!r} is larger than {LARGEST >> 20} MiB; ship less")


if __name__ == "__main__":
    ship()
