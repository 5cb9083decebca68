"""What `bench load` measures, in processes of its own: `python -m ... NAME...`.

Of each step it prints {"name", "cpu": seconds of CPU so far} when all is imported and the work begins, and {"seconds",
"cpu", "peak"} (peak in MiB) at its end. What its workers take is for the parent to see.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout

from orchestration import paths, pipeline
from orchestration.cli.bench import load_world
from orchestration.cli.bench.lineage_work import peak
from orchestration.cli.bench.load_world import CORPUS, LABELS, MANIFEST, REMOTE
from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.resources import store

LAST = 100
"""Shards that are left for a resumed run."""


def making() -> None:
    """All shards but the last, by the real command with a stage that does next to nothing."""
    _run(CORPUS, limit=len(pipeline.current().table("prompts")) - LAST)


def resuming() -> None:
    """The last and the first, which somebody removed: all between them are looked at."""
    here = pipeline.current()
    row = Current(here).row(CORPUS, here.shards(here.find(CORPUS))[0])
    assert row
    # its clips alone: all shards share the table of what is in quarantine
    store.object_path(next(file.md5 for file in row.files if file.path == "clips.tar")).unlink()
    shutil.rmtree(paths.data() / row.folder)
    _run(CORPUS)


def labelling() -> None:
    """In worker processes, as models run."""
    os.environ["ORBITFORGE_WORKERS"] = "2"
    _run(LABELS)


def manifest() -> None:
    """The real stage."""
    _run(MANIFEST)


def nothing() -> None:
    """A run that finds all fresh: reconciling and status."""
    _run(MANIFEST)


def new_dagster() -> None:
    """As in a fresh clone: Dagster is told of everything."""
    shutil.rmtree(paths.dagster_home())
    _run(MANIFEST)


def _run(asset: str, limit: int | None = None) -> None:
    from orchestration.assets import quality_labels, synthetic_corpus
    from orchestration.cli.run import run_command

    synthetic_corpus.make, quality_labels.make = load_world.generate, load_world.label
    run_command(select=asset, limit=limit)


def plan() -> None:
    from orchestration.cli.plan import plan_command

    plan_command(rates=None, measure=False, as_json=False)


def dry_run() -> None:
    from orchestration.cli.run import run_command

    run_command(dry_run=True)


def status() -> None:
    from orchestration.cli.status import status_command

    status_command(why=True, as_json=False)


def audit() -> None:
    from orchestration.cli.audit import audit_command

    audit_command(workers=1, remote=None, as_json=False)


def lineage() -> None:
    from orchestration.lineage.exports.tree import tree
    from orchestration.lineage.find import find_row
    from orchestration.lineage.record import record

    current = Current(pipeline.current())
    tree(record(current, find_row(current, f"{current.pipeline.preset.name}/{MANIFEST}")))


def gc() -> None:
    from orchestration.cli.gc import gc_command

    gc_command("promoted+ancestors", dry_run=True)


def push() -> None:
    command = [sys.executable, "-m", "dvc", "push", "-q", "-r", REMOTE]
    done = subprocess.run(command, cwd=paths.root(), capture_output=True, text=True)
    if done.returncode:
        raise OrbitforgeError(f"dvc push: {done.stderr.strip()}")


WORK: dict[str, tuple[Callable[[], None], str]] = {
    "making": (making, "making all shards but 100"),
    "resuming": (resuming, "resuming the first and the last 100"),
    "labelling": (labelling, "labelling by two workers"),
    "manifest": (manifest, "the manifest"),
    "nothing": (nothing, "a run with nothing to do"),
    "plan": (plan, "plan"),
    "dry_run": (dry_run, "run --dry-run"),
    "status": (status, "status --why"),
    "audit": (audit, "audit"),
    "lineage": (lineage, "lineage of the manifest"),
    "gc": (gc, "gc --dry-run"),
    "push": (push, "dvc push"),
    "new_dagster": (new_dagster, "telling a new Dagster"),
}
"""Name -> what it does, and the words for it. In the order in which each finds what it needs."""


ALONE = ("making", "resuming", "labelling", "manifest", "nothing", "new_dagster")
"""Those whose memory is of interest, each in a process of its own."""


def main(names: list[str]) -> None:
    import dvc.repo  # noqa: F401  # what is imported costs the same for any number of shards
    import mlflow  # noqa: F401

    import orchestration.definitions  # noqa: F401

    if "plan" in names:
        import models.flops  # noqa: F401
    for name in names:
        print(json.dumps({"name": name, "cpu": time.process_time()}), flush=True)
        began = time.monotonic()
        with redirect_stdout(io.StringIO()):
            WORK[name][0]()
        print(json.dumps({"seconds": time.monotonic() - began, "cpu": time.process_time(), "peak": peak()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
