"""A project of its own for each experiment, and what must hold in it whenever nothing runs.

What is looked at is read without the code that wrote it: plain Parquet, plain md5, plain YAML.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import yaml

from tests.waiting import until

CHECKOUT = Path(__file__).parents[2]
MARK = "ORBITFORGE_SURVIVAL_MARK"
"""Set in every process that is started here, and so in all that those start: none of them hides."""
PATIENCE = 20.0
"""Seconds for what must end to end."""

Artifact = tuple[str, str | None]


@dataclass
class Store:
    """A clone of this repository at `root`, with the code that it holds."""

    root: Path
    preset: str = "nano"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    _sound: set[Path] = field(default_factory=set)  # cache objects that were read and are what they are called

    @classmethod
    def clone(cls, root: Path, preset: str = "nano") -> Store:
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(root)], check=True)
        return cls(root, preset)

    def copy(self, root: Path) -> Store:
        shutil.copytree(self.root, root, symlinks=True)
        return Store(root, self.preset)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Ours, without what is said to Orbitforge and Dagster in it."""
        ours = ("ORBITFORGE_", "DAGSTER_")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
            "ORBITFORGE_PRESET": self.preset,
            "PYTHONPATH": str(self.root),
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
            **(more or {}),
        }

    def start(self, *command: str, more: Mapping[str, str] | None = None, output: Path | None = None) -> psutil.Popen:
        """`python -m COMMAND` in this project."""
        with (output or Path(os.devnull)).open("ab") as told:
            return psutil.Popen(
                [sys.executable, "-m", *command],
                cwd=self.root,
                env=self.environment(more),
                stdout=told,
                stderr=told,
                start_new_session=True,
            )

    def run(self, *arguments: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The `orbitforge` command, to its end."""
        command = [sys.executable, "-m", "orchestration.cli.main", *arguments]
        return subprocess.run(command, cwd=self.root, env=self.environment(more), capture_output=True, text=True)

    # what is there

    @property
    def data(self) -> Path:
        return self.root / "data"

    def rows(self) -> pl.DataFrame:
        """The rows of this preset, each once, oldest first."""
        files = sorted((self.data / "ledger").glob("*.parquet"))
        whole = (
            pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed") if files else pl.DataFrame()
        )
        return whole.filter(pl.col("preset") == self.preset).unique("id").sort("ended", "id") if files else whole

    def made(self) -> pl.DataFrame:
        rows = self.rows()
        return rows.filter(pl.col("kind") == "made") if len(rows) else rows

    def finished(self) -> set[Artifact]:
        """What has a row, and what a process had finished that was killed before the row."""
        made = self.made()
        done = {(asset, shard) for asset, shard in made.select("asset", "shard").iter_rows()} if len(made) else set()
        for path in (self.root / ".work").glob("*/*/*/done.json"):
            asset, shard = path.parts[-4:-2]
            done.add((asset, None if shard == "_" else shard))
        return done

    def versions(self) -> dict[Artifact, str]:
        """The newest version of everything that was made: what two runs are compared by."""
        return {(row["asset"], row["shard"]): row["version"] for row in self.made().iter_rows(named=True)}

    def recorded(self) -> dict[str, str]:
        """Path below data/ -> md5, as data.dvc says; nothing in a clone that was killed before it fetched its list."""
        pointer = yaml.safe_load((self.root / "data.dvc").read_text())["outs"][0]["md5"]
        sample = self.root / "dvc-sample" / "files" / "md5" / pointer[:2] / pointer[2:]
        if not self.object(pointer).is_file() and sample.is_file():
            return {}
        return {entry["relpath"]: entry["md5"] for entry in json.loads(self.object(pointer).read_text())}

    def object(self, md5: str) -> Path:
        return self.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]

    # what must hold

    def processes(self) -> list[psutil.Process]:
        """All that live with our mark."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wrong(self) -> list[str]:
        """Everything that is not as it must be while nothing runs; kills what lives on."""
        return [*self._alive(), *self._locked(), *self._torn_objects(), *self._half_written(), *self._torn_pointer()]

    def _alive(self) -> list[str]:
        until(lambda: not self.processes(), PATIENCE)
        left = self.processes()
        told = [f"lives on: {process.pid} {command(process)[:200]}" for process in left]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return told

    def _locked(self) -> list[str]:
        locks = [*(self.root / ".work").rglob("*lock"), *(self.root / ".dvc" / "tmp").rglob("*lock")]
        return [f"still locked: {path}" for path in locks if path.is_file() and _is_locked(path)]

    def _torn_objects(self) -> list[str]:
        told: list[str] = []
        for path in (self.root / ".dvc" / "cache" / "files" / "md5").glob("*/*"):
            if path in self._sound or path.suffix == ".tmp" or path.is_dir():
                continue
            if _md5(path) == path.parent.name + path.name.removesuffix(".dir"):
                self._sound.add(path)
            else:
                told.append(f"is not what it is called: {path}")
        return told

    def _half_written(self) -> list[str]:
        """Each artifact folder is exactly one version that the ledger knows, or is not there."""
        made = self.made()
        told: list[str] = []
        for (name,), rows in made.group_by("folder") if len(made) else ():
            folder = self.data / str(name)
            if not folder.exists():
                continue
            here = {path.relative_to(folder).as_posix(): _md5(path) for path in folder.rglob("*") if path.is_file()}
            known = [{file["path"]: file["md5"] for file in files} for files in rows["files"]]
            if here not in known:
                told.append(f"is no version of the ledger: {folder}")
        folders = {self.data / folder for folder in made["folder"]} if len(made) else set()
        for path in (self.data / self.preset).rglob("*"):
            if path.is_file() and not folders & set(path.parents):
                told.append(f"belongs to no row: {path}")
        return told

    def _torn_pointer(self) -> list[str]:
        try:
            return [
                f"data.dvc names what is nowhere: {p}" for p, md5 in self.recorded().items() if self._absent(p, md5)
            ]
        except (OSError, ValueError, LookupError, TypeError) as error:
            return [f"data.dvc or its list cannot be read: {error!r}"]

    def _absent(self, path: str, md5: str) -> bool:
        """Of this preset and the ledger: the rest may never have been fetched."""
        return path.startswith((f"{self.preset}/", "ledger/")) and not self.object(md5).is_file()


def command(process: psutil.Process) -> str:
    """What a process was started with; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def unpublished(store: Store) -> list[str]:
    """At the end everything is told everywhere: data.dvc, MLflow and Dagster hold every artifact, each once."""
    recorded, told = store.recorded(), []
    newest = {(row["asset"], row["shard"]): row for row in store.made().iter_rows(named=True)}
    for row in newest.values():
        for file in row["files"]:
            if recorded.get(path := f"{row['folder']}/{file['path']}") != file["md5"]:
                told.append(f"data.dvc lacks {path}")
    counted = store.made().group_by("asset", "shard", "key").len().filter(pl.col("len") > 1)
    told += [f"made {count} times: {asset}[{shard}]" for asset, shard, _, count in counted.iter_rows()]
    told += [f"left over: {path}" for path in _temporaries(store)]
    told += _services(store, newest)
    return told


def _temporaries(store: Store) -> list[Path]:
    """Half files in places that DVC carries, or that nothing would ever remove."""
    return [*(store.data).rglob("*.tmp"), *(store.root / ".dvc" / "cache" / "files").rglob("*.tmp")]


def _services(store: Store, newest: Mapping[Artifact, Mapping[str, Any]]) -> list[str]:
    command = [sys.executable, "-m", "tests.survival.services"]
    done = subprocess.run(command, cwd=store.root, env=store.environment(), capture_output=True, text=True)
    if done.returncode:
        return [f"services cannot be asked: {done.stderr[-500:]}"]
    held = json.loads(done.stdout.splitlines()[-1])
    models, runs, events, alive = held["models"], held["trainings"], held["events"], held["alive"]
    told = [
        f"Dagster does not know {key}" for key, row in newest.items() if not events.get(key[0], {}).get(key[1] or "")
    ]
    told += [f"registered {count} times in MLflow: {row}" for row, count in models.items() if count > 1]
    published = set(store.rows().filter(pl.col("kind") == "published")["about"])
    told += [f"MLflow does not hold the row {row}" for row in published - models.keys()]
    trained = {row["id"]: key for key, row in newest.items() if row["mlflow_run"]}
    told += [f"not registered in MLflow: {key}" for row, key in trained.items() if row not in models]
    told += [f"a run in Dagster never ended: {run}" for run in alive]
    told += [f"{runs[state]} runs in MLflow are {state}" for state in ("RUNNING", "SCHEDULED") if runs.get(state)]
    return told


def lost(store: Store, began: float, at: float) -> dict[Artifact, float]:
    """What the start at `began` was making when it ended `at`: seconds since its last state on disk."""
    found: dict[Artifact, float] = {}
    finished = store.finished()
    for folder in (store.root / ".work").glob("*/*/*"):
        inputs = folder / "inputs"
        if not inputs.is_dir() or inputs.stat().st_mtime < began:
            continue
        asset, shard = folder.parts[-3:-1]
        key = (asset, None if shard == "_" else shard)
        states = [path.stat().st_mtime for path in (folder / "state").rglob("*.ckpt")]
        if key not in finished:
            found[key] = at - max([inputs.stat().st_mtime, *states])
    return found


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def reports(log: Path) -> Sequence[dict[str, Any]]:
    """The lines of a log; a last one that a kill cut is left out."""
    lines = log.read_text().splitlines() if log.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
