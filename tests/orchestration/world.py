"""A small world to test the seam in: a project folder, source tables, and a pipeline of toy stages.

The toy stages lie in a package `toy` that is written into the project, so that tests can edit their code.
`views` (object shards) -> `manifest` -> `model` (reads the views through the manifest) -> `clips` (prompt shards).
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from orchestration.artifacts import materialise
from orchestration.lineage import code
from orchestration.lineage.staleness import AssetStatus, status
from orchestration.observe import partition_set
from orchestration.pipeline import Pipeline
from orchestration.presets.schema import Preset
from orchestration.resources.runs import run_tags
from orchestration.steps import Make, Source, Step

STAGE = '''
"""A stage of the toy pipeline."""

from toy.helper import line


def view(name: str, mesh: bytes, views: int) -> str:
    # one line for each object
    return line(name, mesh.decode(), views)
'''

HELPER = """
def line(*parts):
    return " ".join(str(part) for part in parts)
"""

MAKES = """
import json
import os
import time
from pathlib import Path

import polars as pl


def called(work, name):
    with open(os.environ["ORBITFORGE_ROOT"] + "/calls", "a") as calls:
        calls.write(f"{work.asset} {work.shard}\\n")
    if os.environ.get("TOY_WAIT") == name:  # for a minute at most, until a test has seen enough
        until = time.monotonic() + 60
        while not Path(os.environ["ORBITFORGE_ROOT"], f"go-{work.shard}").exists() and time.monotonic() < until:
            time.sleep(0.05)
    if os.environ.get("TOY_FAIL") == f"{name}:{work.shard}":
        raise ValueError(f"{name} cannot make {work.shard}")


def views(work):
    from toy.stage import view

    called(work, "views")
    source = work.inputs["source_objects"]
    for row in pl.read_parquet(source / "objects.parquet").iter_rows(named=True):
        text = view(row["id"], (source / row["file"]).read_bytes(), work.preset.rendering.views)
        (work.output / f"{row['id']}.txt").write_text(text)
    work.report({"step": 1, "of": 1, "message": "rendered", "metrics": {"objects": 1.0}})
    (work.scratch / "preview").mkdir(exist_ok=True)
    (work.scratch / "preview" / "first.md").write_text("# seen")


def manifest(work):
    called(work, "manifest")
    shards = {f.name: {p.name: p.read_text() for p in f.iterdir()} for f in work.inputs["views"].iterdir()}
    (work.output / "manifest.json").write_text(json.dumps(shards, sort_keys=True))


def model(work):
    called(work, "model")
    count = work.scratch / "steps"
    done = int(count.read_text()) if count.exists() else 0
    for step in range(done, 3):
        if os.environ.get("TOY_KILL") == str(step):
            os.kill(os.getpid(), 9)
        count.write_text(str(step + 1))
        for logger in work.loggers:
            logger.log_metrics({"loss": 1.0 / (step + 1)}, step)
    work.report({"message": "measured", "metrics": {"precision": 0.9}})
    preview = work.scratch / "preview"
    preview.mkdir(exist_ok=True)
    (preview / "rates.md").write_text("recall 0.8")
    texts = [p.read_text() for p in sorted(work.inputs["views"].rglob("*.txt"))]
    (work.output / "weights").write_text("|".join(texts) + f" seed {work.seed}")


def clips(work):
    called(work, "clips")
    weights = (work.inputs["model"] / "weights").read_text()
    prompts = pl.read_parquet(work.inputs["prompts"] / "prompts.parquet")
    (work.output / "clips.txt").write_text(weights[:5] + ",".join(prompts["text"]))
"""

VIEWS = Step("views", ("source_objects",), ("rendering",), ("toy.stage",), "toy", "shards", shards="objects")
MANIFEST = Step("manifest", ("views",), (), ("toy.helper",), "toy", "table")
MODEL = Step("model", ("manifest",), ("rendering.size",), ("toy.helper",), "toy", "model", files=("views",))
CLIPS = Step("clips", ("model", "prompts"), (), ("toy.helper",), "toy", "shards", shards="prompts")
TABLE_MODEL = replace(MODEL, kind="table")


@dataclass
class Log:
    lines: list[str] = field(default_factory=list)

    def info(self, line: str) -> None:
        self.lines.append(line)

    error = info


@dataclass
class Context:
    """As much of Dagster's context as the seam uses."""

    instance: dg.DagsterInstance
    partition_keys: Sequence[str] = ()
    run_id: str = "run-1"
    log: Log = field(default_factory=Log)

    @property
    def has_partition_key(self) -> bool:
        return len(self.partition_keys) == 1

    @property
    def has_partition_key_range(self) -> bool:
        return len(self.partition_keys) > 1

    @property
    def run_tags(self) -> dict[str, str]:
        return run_tags()


@dataclass
class World:
    root: Path
    instance: dg.DagsterInstance
    pipeline: Pipeline

    @property
    def data(self) -> Path:
        return self.root / "data"

    def make(self, *names: str, shards: Sequence[str] = ()) -> list[dg.AssetMaterialization]:
        """Materialise steps in turn, in this process; returns the events, which Dagster has been told."""
        events: list[dg.AssetMaterialization] = []
        for name in names:
            step = self.pipeline.find(name)
            assert isinstance(step, Step)
            for event in self.run(step, shards):
                if isinstance(event, dg.AssetMaterialization):
                    self.instance.report_runless_asset_event(event)
                    events.append(event)
        return events

    def run(self, step: Step, shards: Sequence[str] = ()) -> Iterator[Any]:
        context: Any = Context(self.instance, shards)
        return materialise(context, step, make_of(step.name), pipeline=self.pipeline)

    def status(self) -> dict[str, AssetStatus]:
        return {each.asset: each for each in status(self.pipeline)}

    def states(self) -> dict[str, str]:
        return {name: each.status for name, each in self.status().items()}

    def calls(self) -> list[str]:
        """What the stages were called for, in order, since the last time."""
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def configure(self, **sections: Any) -> None:
        values = self.pipeline.preset.model_dump() | sections
        self.pipeline = replace(self.pipeline, preset=Preset.model_validate(values))

    def edit(self, module: str, before: str, after: str) -> None:
        """Edit a toy module as a person would between two runs."""
        path = self.root / "src" / Path(*module.split(".")).with_suffix(".py")
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
        forget_toys()

    def objects(self, ids: dict[str, str]) -> None:
        """Write the objects table and meshes: id -> shard."""
        meshes = self.data / "source" / "meshes"
        meshes.mkdir(parents=True, exist_ok=True)
        rows = []
        for id_, shard in ids.items():
            (meshes / f"{id_}.glb").unlink(missing_ok=True)
            (meshes / f"{id_}.glb").write_text(f"mesh of {id_}")
            md5 = hashlib.md5(f"mesh of {id_}".encode()).hexdigest()
            rows.append(
                {"id": id_, "shard": shard, "caption": f"a {id_}", "category": "toy", "licence": "CC0", "creator": "me"}
                | {"split": "train", "file": f"meshes/{id_}.glb", "md5": md5, "faces": 12, "source": "here"}
            )
        pl.DataFrame(rows).write_parquet(self.data / "source" / "objects.parquet")

    def prompts(self, texts: dict[str, str]) -> None:
        """Write the prompts table: text -> shard. The object of each is the first one."""
        first = pl.read_parquet(self.data / "source" / "objects.parquet").row(0, named=True)
        rows = [
            {"id": f"p{n}", "shard": shard, "text": text, "object": first["id"], "file": first["file"]}
            | {"md5": first["md5"], "seed": n, "licence": "CC0", "creator": "me"}
            for n, (text, shard) in enumerate(texts.items())
        ]
        pl.DataFrame(rows).write_parquet(self.data / "source" / "prompts.parquet")


def make_of(name: str) -> Make:
    from toy import makes  # pyright: ignore[reportMissingImports]

    return getattr(makes, name)


def definitions(pipeline: Pipeline, *checks: dg.AssetChecksDefinition) -> dg.Definitions:
    """The toys as assets and jobs, as the real ones are declared."""
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    partitions = {
        table: dg.DynamicPartitionsDefinition(name=partition_set(pipeline.preset, table))
        for table in ("objects", "prompts")
    }

    def asset(step: Step) -> dg.AssetsDefinition:
        @dg.asset(
            name=step.name,
            group_name=step.group,
            deps=list(step.reads),
            partitions_def=partitions[step.shards] if step.shards else None,
            backfill_policy=dg.BackfillPolicy.single_run() if step.shards else None,
        )
        def made(context) -> Iterator[Any]:
            yield from materialise(context, step, make_of(step.name), pipeline=pipeline)

        return made

    def source(found: Source) -> dg.AssetSpec:
        return dg.AssetSpec(found.name, partitions_def=partitions[found.table] if found.table else None)

    alone = dg.in_process_executor
    jobs = [
        dg.define_asset_job(group, selection=dg.AssetSelection.groups(group), executor_def=alone)
        for group in dict.fromkeys(step.group for step in pipeline.steps)
    ]
    return dg.Definitions(
        assets=[*map(asset, pipeline.steps), *map(source, pipeline.sources)],
        jobs=jobs,
        asset_checks=checks,
        executor=alone,
    )


def forget_toys() -> None:
    for name in [name for name in sys.modules if name == "toy" or name.startswith("toy.")]:
        del sys.modules[name]
    for name in [name for name in code._seen if name.startswith("toy")]:
        del code._seen[name]


def build(root: Path, monkeypatch: pytest.MonkeyPatch, *, model: Step = TABLE_MODEL) -> World:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(root))
    monkeypatch.setenv("ORBITFORGE_WORKERS", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    package = root / "src" / "toy"
    package.mkdir(parents=True)
    for name, text in {"__init__": "", "stage": STAGE, "helper": HELPER, "makes": MAKES}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(root / "src"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second keeps size and time stamp
    forget_toys()
    code._homes.cache_clear()
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n[cache]\n    type = hardlink,copy\n"
    )
    preset = Preset.model_validate({"name": "toy"})
    world = World(root, dg.DagsterInstance.ephemeral(), Pipeline(preset, (VIEWS, MANIFEST, model, CLIPS)))
    world.objects({"ape": "000", "bee": "000", "cow": "001"})
    world.prompts({"red": "000", "blue": "001"})
    return world
