"""`orbitforge render`: a collection of meshes as shards of views with cameras, without a pipeline."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from orchestration.cli.progress import Bars
from orchestration.cli.quarantined import tell_quarantined
from orchestration.cli.waits import waits
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.locks import locked
from orchestration.presets.schema import load_preset
from orchestration.resources.engines.config import EngineConfig
from orchestration.resources.engines.tries import Report
from orchestration.resources.shards import map_shards
from orchestration.versions import code_version, digest
from stages.objects.collections.open import open_collection
from stages.objects.collections.screen import screened
from stages.rendering.collection import collection_rows, content_version, known_shards
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import summary, write_manifest
from stages.rendering.overview import overview
from stages.rendering.rasterise import cuda, on_cuda
from stages.rendering.views import render_shard
from stages.sandbox import STOPPED, Limits
from stages.tables import write_table

LOCK, UNFINISHED, UNPACKED = ".lock", ".unfinished", ".unpacked"
CODE = ("stages.rendering.views",)


@dataclass(frozen=True)
class Job:
    """One shard to render, in a process of its own; `version` is that of all that decides its bytes."""

    shard: str
    rows: pl.DataFrame
    output: Path
    config: RenderingConfig
    seed: int
    limits: Limits
    version: str

    @property
    def folder(self) -> Path:
        return self.output / "shards" / self.shard

    @property
    def mark(self) -> dict[str, Any]:
        return {"version": self.version, "limits": vars(self.limits)}

    def done(self) -> bool:
        """Whether the shard is there; one with objects that other limits stopped is not."""
        file = self.folder / "done.json"
        mark = json.loads(file.read_text()) if file.is_file() else {}
        if mark.get("version") != self.version or mark == self.mark:
            return mark == self.mark
        reasons = pl.read_parquet(self.folder / "quarantine.parquet")["reason"]
        return not reasons.is_in(STOPPED).any()


def render_command(
    sources: Sequence[str],
    output: Path,
    *,
    preset: str | None,
    changes: dict[str, int | None],
    table: Path | None,
    licences: Sequence[str],
    shard_size: int,
    workers: int | None,
    seed: int,
    limits: Limits,
    as_json: bool,
) -> None:
    """Render what `sources` hold into `output`; shards that are finished, and would be the same, stay."""
    console = Console(stderr=True, quiet=as_json)
    config = rendering(preset, changes)
    many = len(sources) > 1
    collections = [
        open_collection(source, state=output, table=table, licences=licences, one_of_many=many) for source in sources
    ]

    with (
        plain_errors(f"writing {output}"),
        locked(output / LOCK, waiting=waits(console, f"renders into {output}")),
    ):
        (output / UNPACKED).mkdir(parents=True, exist_ok=True)
        items = [item for collection in collections for item in collection.items(output / UNPACKED)]
        if not items:
            raise OrbitforgeError(f"{', '.join(sources)}: no mesh there; .glb, .gltf, .obj, .ply, .stl, .sh3f are read")
        known = known_shards(output / "objects.parquet")
        rows = collection_rows(screened(items, licences), shard_size, known, limits)
        write_table(rows.drop("file"), output / "objects.parquet")  # where a file lay is nobody's business later
        jobs = _jobs(rows, output, config, seed, limits)
        waiting = [job for job in jobs if not job.done()]
        if len(waiting) < len(jobs):
            console.print(f"{len(jobs) - len(waiting)} of {len(jobs)} shards are finished", style="dim")
        if waiting:
            console.print(f"{'by warp on the GPU' if on_cuda(config) else 'by numba'}: {cuda()[1]}", style="dim")
        failures = _render_all(waiting, workers or min(2, os.cpu_count() or 1), console)
        if failures:
            raise OrbitforgeError(f"{len(failures)} shards failed: {'; '.join(failures[:3])}; run again to go on")
        for folder in (output / "shards").iterdir():
            if folder.name not in {job.shard for job in jobs}:  # its objects are gone
                shutil.rmtree(folder)
        write_manifest(output / "shards", output)
        for scratch in (UNPACKED, UNFINISHED):
            shutil.rmtree(output / scratch, ignore_errors=True)
        (output / LOCK).unlink()
    manifest = pl.read_parquet(output / "manifest.parquet")
    if as_json:
        json.dump(_told(rows, manifest), sys.stdout)
        print()
    else:
        _print(console, manifest, output)


def rendering(preset: str | None, changes: dict[str, int | None]) -> RenderingConfig:
    """The preset's section, or the defaults, with `changes` (null: none); objects are rendered as they are."""
    config = load_preset(preset).rendering if preset else RenderingConfig.model_validate({})
    as_they_are = {"variants": 1, "invented": 0}
    told = {key: value for key, value in changes.items() if value is not None}
    return RenderingConfig.model_validate(config.model_dump() | as_they_are | told)


def _jobs(rows: pl.DataFrame, output: Path, config: RenderingConfig, seed: int, limits: Limits) -> list[Job]:
    settings = digest([config.model_dump(mode="json"), seed, code_version(CODE)])
    jobs = []
    for (shard,), part in sorted(rows.group_by("shard")):
        part = part.sort("id")
        version = digest([settings, content_version(part)])
        jobs.append(Job(str(shard), part, output, config, seed, limits, version))
    return jobs


def _render_all(jobs: Sequence[Job], workers: int, console: Console) -> list[str]:
    """What went wrong, a line a shard."""
    failures = []
    done: dict[str, int] = {}
    total, began = sum(len(job.rows) for job in jobs), time.monotonic()

    with Bars(console) as bars:
        tell = bars.of("rendering")
        tell()

        def hear(job: Job, event: dict[str, Any]) -> None:
            done[job.shard] = event.get("step", 0)  # none where it is tried again
            drawn = sum(done.values())
            tell({"step": drawn, "of": total, "objects/s": drawn / max(1e-3, time.monotonic() - began)})

        for job, result in map_shards(render_job, jobs, EngineConfig(workers=workers), report=hear):
            if isinstance(result, Exception):
                failures.append(f"{job.shard}: {' '.join(str(result).split())}")
    return failures


def render_job(job: Job, report: Report) -> None:
    """Render one shard aside and put it in its place in one step."""
    aside = job.output / UNFINISHED / job.shard
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    render_shard(job.rows, Path(), aside, job.config, seed=job.seed, report=report, limits=job.limits)
    overview(aside / "views.tar").save(aside / "overview.png")
    (aside / "done.json").write_text(json.dumps(job.mark))
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.parent.mkdir(exist_ok=True)
    aside.replace(job.folder)


def _told(rows: pl.DataFrame, manifest: pl.DataFrame) -> dict[str, Any]:
    broken = {row["id"]: row for row in manifest.filter(pl.col("reason").is_not_null()).to_dicts()}
    objects = [
        {
            "file": row["name"],
            "status": "quarantined" if row["id"] in broken else "rendered",
            "reason": _words(broken[row["id"]]) if row["id"] in broken else None,
        }
        for row in rows.sort("name").to_dicts()
    ]
    return {"rendered": len(rows) - len(broken), "quarantined": len(broken), "objects": objects}


def _words(row: dict[str, Any]) -> str:
    return f"{row['reason']}: {row['error']}" if row["error"] else row["reason"]


def _print(console: Console, manifest: pl.DataFrame, output: Path) -> None:
    told = summary(manifest)
    console.print(f"rendered {told['objects']} objects, {told['views']} views, into {output}", style="bold green")
    if told["duplicates"]:
        console.print(f"{told['duplicates']} of them have the shape of another: see duplicate_of in manifest.parquet")
    tell_quarantined(console, told["reasons"])
