"""The toy pipeline behind the real command: `orbitforge` of a project whose stages take no time, in real processes.

They are forked from one that has imported what the command needs; a command then takes a second, not ten.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from orchestration.last_words import promise_last_words
from orchestration.lineage.ledger import MADE, Ledger
from orchestration.pipeline import Pipeline
from orchestration.presets.schema import Preset
from tests.orchestration.world import CLIPS, MANIFEST, MODEL, VIEWS, World, build, definitions

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["tests.survival.preloaded"])
STEPS = tuple(replace(step, group=f"{step.name}_") for step in (VIEWS, MANIFEST, MODEL, CLIPS))
Before = Callable[[Path], object]
EMPTY: Mapping[str, str] = {}
LONG = 300.0
"""Seconds after which a command hangs."""


@dataclass(frozen=True)
class Told:
    """How a command ended, and what it said."""

    code: int | None
    text: str

    @property
    def error(self) -> str:
        """The line of the error; "" for none."""
        return next((line for line in self.text.splitlines() if line.startswith("error: ")), "")


class Toys:
    """A project on the disk and its command."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, *, payload: int = 0) -> None:
        """`payload` is the size of a mesh, and so of a view, in bytes."""
        self.root = root
        self.world: World = build(root, patch, model=MODEL)
        (root / "toy.yaml").touch()
        (root / "workspace.yaml").touch()
        patch.setenv("ORBITFORGE_PRESET", str(root / "toy.yaml"))
        if payload:
            fatten(self.world, payload)
        self._count = 0

    def start(self, *arguments: str, before: Before | None = None, environment: Mapping[str, str] = EMPTY) -> Command:
        """`before` is called in the process, with the root, before the command."""
        self._count += 1
        said = self.root.parent / f"{self.root.name}-said-{self._count}.txt"
        process = START.Process(target=_orbitforge, args=(self.root, arguments, said, before, dict(environment)))
        process.start()
        return Command(process, said, arguments)

    def call(self, *arguments: str, before: Before | None = None, environment: Mapping[str, str] = EMPTY) -> Told:
        return self.start(*arguments, before=before, environment=environment).end()

    def made(self) -> dict[str, str]:
        """Folder -> version of its newest row."""
        rows = Ledger(self.root / "data" / "ledger").read().filter(pl.col("kind") == MADE).sort("ended", "id")
        return dict(rows.select("folder", "version").iter_rows())

    def leftovers(self) -> list[str]:
        """Files that only a process that works may have."""
        return [
            path.relative_to(self.root).as_posix()
            for path in (*self.root.glob("data/**/*.tmp"), *self.root.glob(".work/**/*.tmp"), *self._cache_leftovers())
        ]

    def _cache_leftovers(self) -> Iterator[Path]:
        return (self.root / ".dvc" / "cache").rglob("*.tmp")


@dataclass(frozen=True)
class Command:
    process: BaseProcess
    said: Path
    words: tuple[str, ...]

    def end(self, seconds: float = LONG) -> Told:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return Told(None, f"hangs; {self.said.read_text()}")
        until = time.monotonic() + 5
        while self.process.exitcode < 0 and "error: " not in self.said.read_text() and time.monotonic() < until:
            time.sleep(0.05)  # its last words come after it
        return Told(self.process.exitcode, self.said.read_text())


def fatten(world: World, payload: int) -> None:
    """Make each mesh `payload` bytes of noise, which no file system can make smaller."""
    table = world.data / "source" / "objects.parquet"
    rows = pl.read_parquet(table).to_dicts()
    for row in rows:
        text = hashlib.shake_128(row["id"].encode()).hexdigest(payload // 2)
        (world.data / "source" / row["file"]).write_text(text)
        row["md5"] = hashlib.md5(text.encode()).hexdigest()
    pl.DataFrame(rows).write_parquet(table)
    world.prompts({"red": "000", "blue": "001"})


def _orbitforge(
    root: Path,
    arguments: tuple[str, ...],
    said: Path,
    before: Before | None,
    environment: dict[str, str],
) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ |= {
        "ORBITFORGE_ROOT": str(root),
        "ORBITFORGE_PRESET": str(root / "toy.yaml"),
        "ORBITFORGE_WORKERS": "1",
        "COLUMNS": "400",
        **environment,
    }
    os.chdir(root)
    sys.path.insert(0, str(root / "src"))
    sys.dont_write_bytecode = True
    say_goodbye = promise_last_words()
    try:
        if before:
            before(root)
        _command(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    say_goodbye()
    os._exit(code)


def _command(arguments: tuple[str, ...]) -> None:
    from orchestration import pipeline
    from orchestration.cli import run
    from orchestration.cli.main import app

    toys = Pipeline(Preset.model_validate({"name": "toy"}), STEPS)
    pipeline.current = lambda: toys
    pipeline.sources_only = lambda: toys
    run.fetch_sample = lambda console: None
    sys.modules["orchestration.definitions"] = SimpleNamespace(defs=definitions(toys))  # pyright: ignore
    app(list(arguments))
