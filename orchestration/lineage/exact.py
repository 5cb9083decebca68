"""Reproducing with the code and the libraries of then: a git worktree, an environment, and a root of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestration import paths
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.again import ancestors
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import Ledger, Row
from orchestration.lineage.reproduce import ADOPTED, Comparison, other_environment
from orchestration.resources.store import cache_dir
from orchestration.tasks import name_of
from orchestration.versions import TOOLS, digest

NOT_INSTALLED = TOOLS | {"python", "platform", "threads"}


def reproduce_exactly(current: Current, rows: Iterable[Row], say: Callable[[str], None]) -> Iterator[Comparison]:
    """Make each row again with the code of its commit and the libraries that it names.

    Folders are made below `.work/exact` and used again: one worktree a commit, one environment a set of versions.
    Raises OrbitforgeError for what no commit holds and for a commit without `orbitforge reproduce`.
    """
    for row in rows:
        if row.service == ADOPTED:
            yield Comparison(row, ADOPTED, f"was not made here: {row.reference}")
            continue
        code = worktree(row)
        python = interpreter(row, code, say)
        root = private_root(current, row)
        try:
            yield _run(row, code, python, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def worktree(row: Row) -> Path:
    """A checkout of the commit that `row` was made at."""
    name = name_of(row.asset, row.shard)
    if row.git_commit is None:
        raise OrbitforgeError(f"{name} was made outside git: no commit holds its code")
    if row.git_diff:
        raise OrbitforgeError(
            f"{name} was made from a dirty tree at commit {row.git_commit[:12]} (diff {row.git_diff[:12]}): no commit "
            "holds its code"
        )
    folder = paths.work() / "exact" / row.git_commit[:12]
    if not (folder / ".git").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", "--force", str(folder), row.git_commit)
    if not (folder / "orchestration" / "cli" / "reproduce.py").is_file():
        raise OrbitforgeError(f"commit {row.git_commit[:12]}, which made {name}, has no `orbitforge reproduce` yet")
    return folder


def interpreter(row: Row, code: Path, say: Callable[[str], None]) -> str:
    """This Python where its libraries are those of then; else an environment that pip fills with them."""
    if not list(other_environment(row)):
        return sys.executable
    here, then = f"{sys.version_info.major}.{sys.version_info.minor}", row.environment.get("python", "")
    if not then.startswith(f"{here}."):
        raise OrbitforgeError(f"{name_of(row.asset, row.shard)} was made by Python {then}; run this with that Python")
    pins = [f"{name}=={version}" for name, version in row.environment.items() if name not in NOT_INSTALLED]
    folder = paths.work() / "exact" / f"environment-{digest([sorted(pins), row.git_commit])[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        say(f"installing the libraries of then into {folder.relative_to(paths.root())}: this takes minutes")
        shutil.rmtree(folder, ignore_errors=True)
        with plain_errors(f"making {folder}"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            (folder / "pins.txt").write_text("\n".join(sorted(pins)) + "\n")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "-c", str(folder / "pins.txt"), str(code)], capture_output=True, text=True)
        if done.returncode:
            raise OrbitforgeError(f"the libraries of then cannot be installed: {' '.join(done.stderr.split())[-600:]}")
        (folder / "complete").touch()
    return str(python)


def private_root(current: Current, row: Row) -> Path:
    """A root that holds this row, what it came from, and a way to the cache: code of then cannot harm what is now."""
    root = paths.work() / "exact" / f"root-{row.id[:12]}-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    (root / ".dvc").mkdir(parents=True)
    (root / "workspace.yaml").touch()
    (root / ".dvc" / "config").write_text(f"[core]\n    no_scm = true\n[cache]\n    dir = {cache_dir().parents[1]}\n")
    Ledger(root / "data" / "ledger").append(*ancestors(current, row))
    return root


def _run(row: Row, code: Path, python: str, root: Path) -> Comparison:
    environment = {
        **os.environ,
        "ORBITFORGE_ROOT": str(root),
        "PYTHONPATH": str(code),
        "OMP_NUM_THREADS": row.environment.get("threads") or "1",
    }
    command = [python, "-m", "orchestration.cli.main", "reproduce", row.id, "--json"]
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True)
    try:
        (told,) = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        name, commit = name_of(row.asset, row.shard), (row.git_commit or "")[:12]
        raise OrbitforgeError(f"{name} could not be made at commit {commit}: {last[0]}") from None
    pairs = {kind: {name: tuple(pair) for name, pair in told[kind].items()} for kind in ("files", "metrics")}
    return Comparison(row, told["result"], told["words"], seconds=told["seconds"], **pairs)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=paths.root(), capture_output=True, text=True)
    if done.returncode:
        raise OrbitforgeError(f"`git {' '.join(arguments[:2])}` failed: {' '.join(done.stderr.split())}")
