"""A project as large as the measures ask for: thousands of shards of a few bytes, or a few of many megabytes."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

from orchestration import paths, pipeline
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, OBSERVED, File, Ledger, Row, now
from orchestration.pipeline import Pipeline
from orchestration.resources import store
from orchestration.steps import Step
from orchestration.versions import code_modules, config_of, environment, tree_version
from stages.objects.sources import COLUMNS, OBJECTS, PROMPTS
from stages.quality.judged import SCHEMA

NAME = "bench"
PRESET = "extends: tiny\n"
CHANGED = "extends: tiny\nseed: 1\n"
"""Another seed: every artifact is stale, and says so."""
OBJECTS_SHARE, PROMPTS_SHARE = 5, 5 / 2
"""Of N shards: N/5 of rendered_views, 2N/5 each of synthetic_corpus and quality_labels."""
_STEP = 100  # generations of history in one ledger file


def prepare(root: Path) -> None:
    """An empty project, and the environment variables that make it the current one."""
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n[cache]\n    type = hardlink,copy\n"
    )
    (root / "workspace.yaml").touch()
    (root / "changed").mkdir()
    (root / f"{NAME}.yaml").write_text(PRESET)
    (root / "changed" / f"{NAME}.yaml").write_text(CHANGED)
    os.environ |= {"ORBITFORGE_ROOT": str(root), "ORBITFORGE_PRESET": str(root / f"{NAME}.yaml")}


@contextmanager
def kept_environment() -> Iterator[None]:
    """What `prepare` sets for this process and its children is what it was afterwards."""
    before = {name: os.environ.get(name) for name in ("ORBITFORGE_ROOT", "ORBITFORGE_PRESET")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def fill(shards: int) -> Pipeline:
    """Source tables, and every artifact of the pipeline as if it had been made: `shards` of a few bytes in all."""
    write_sources(shards // OBJECTS_SHARE, round(shards / PROMPTS_SHARE))
    here = pipeline.current()
    for source in here.sources:
        Ledger().append(*observed(here, source.name))
    for step in here.steps:
        rows = list(made(here, step))
        Ledger().append(*rows)
    return here


def write_sources(objects: int, prompts: int) -> None:
    """One object and one prompt a shard, all with the same mesh; one judged clip."""
    home = paths.data() / "source"
    (home / "meshes").mkdir(parents=True, exist_ok=True)
    mesh = home / "meshes" / "cube.glb"
    if not mesh.exists():
        mesh.write_bytes(b"cube")
    md5 = hashlib.md5(b"cube").hexdigest()
    common = {"licence": "CC0-1.0", "creator": "somebody", "file": "meshes/cube.glb", "md5": md5}
    rows = [{"id": f"o{n:05}", "shard": f"{n:05}", **common} for n in range(objects)]
    about = {"caption": "a cube", "category": "cubes", "split": "train", "faces": 12, "source": "here"}
    pl.DataFrame([row | about for row in rows]).select(COLUMNS[OBJECTS]).write_parquet(home / "objects.parquet")
    prompt = {"text": "a cube", "object": "o00000", "seed": 1}
    rows = [{"id": f"p{n:05}", "shard": f"p{n:05}", **common, **prompt} for n in range(prompts)]
    pl.DataFrame(rows).select(COLUMNS[PROMPTS]).write_parquet(home / "prompts.parquet")
    labels = paths.data() / "human_labels"
    labels.mkdir(exist_ok=True)
    label = {"clip": "c", "tar": "clips.tar", "verdict": "good", "who": "somebody", "object": "o00000"}
    table = pl.DataFrame([dict.fromkeys(SCHEMA, "") | label | {"licence": "CC0-1.0"}], schema=SCHEMA)
    if not (labels / "labels.parquet").exists():
        table.write_parquet(labels / "labels.parquet")


def multiply(rows: int) -> None:
    """Let the ledger grow to `rows` rows: the same shards, made again and again before."""
    table = Ledger().read()
    made = table.filter((pl.col("kind") == MADE) & pl.col("shard").is_not_null())
    generations = max(0, rows - len(table)) // len(made) + 1
    for start in range(0, generations, _STEP // 10):
        parts = [_older(made, number) for number in range(start, min(start + _STEP // 10, generations))]
        pl.concat(parts).write_parquet(Ledger().folder / f"rows-older-{start:06}.parquet", compression="zstd")


def _older(made: pl.DataFrame, number: int) -> pl.DataFrame:
    """Other ids, keys and versions; the ids are no hashes of the content, which only an audit would notice."""
    tag = f"{number:06x}"

    def renamed(column: str) -> pl.Expr:
        return pl.concat_str(pl.col(column).str.head(-len(tag)), pl.lit(tag)).alias(column)

    early = f"20{number // 365 % 20:02}-{number // 28 % 12 + 1:02}-{number % 28 + 1:02}"
    moved = pl.concat_str(pl.lit(early), pl.col("ended").str.slice(len(early))).alias("ended")
    return made.with_columns(renamed("id"), renamed("key"), renamed("version"), moved)


def big_shards(count: int, size: int) -> None:
    """`count` object shards of `size` random bytes each, in the cache, in `data/`, in the ledger."""
    write_sources(count, 1)
    here = pipeline.current()
    Ledger().append(*observed(here, "source_objects"))
    step = next(step for step in here.steps if step.name == "rendered_views")
    Ledger().append(*made(here, step, size=size))


def observed(here: Pipeline, name: str) -> Iterator[Row]:
    current = Current(here)
    source = here.find(name)
    shards = [None, *here.shards(source)] if source.shards else [None]
    for shard in dict.fromkeys(shards):
        at = now()
        version = current.version(source, shard) or ""
        yield Row(OBSERVED, NAME, name, shard, version=version, started=at, ended=at)


def made(
    here: Pipeline,
    step: Step,
    size: int | None = None,
    only: Iterable[str | None] | None = None,
    contents: Callable[[str | None], Mapping[str, bytes]] | None = None,
) -> Iterator[Row]:
    """Rows of artifacts as if they had been made, their files in the cache and in `data/`."""
    current = Current(here)
    modules, config = code_modules(step.code), config_of(here.preset, step.config)
    for shard in here.shards(step) if only is None else only:
        wanted = current.wanted(step, shard)
        if contents:
            files = tuple(_write(wanted.folder, name, content) for name, content in contents(shard).items())
        else:
            files = _files(wanted.folder, step, size)
        at = now()
        row = Row(
            kind=MADE,
            preset=NAME,
            asset=step.name,
            shard=shard,
            folder=wanted.folder,
            version=tree_version({file.path: file.md5 for file in files}),
            key=wanted.key,
            files=files,
            inputs=wanted.inputs,
            code=wanted.code,
            code_modules=modules,
            config_hash=wanted.config_hash,
            config=config,
            seed=1,
            environment=environment(),
            git_commit="0" * 40,
            host="bench",
            started=at,
            ended=at,
            seconds=1.0,
            bytes=sum(file.size for file in files),
        )
        yield replace(row)


def _files(folder: str, step: Step, size: int | None) -> tuple[File, ...]:
    if step.kind == "model":
        weights = _write(folder, "model.safetensors", folder.encode())
        return (_write(folder, "asset.glb", _glb(weights.md5)), weights)
    return (_write(folder, "shard.tar", folder.encode() if size is None else os.urandom(size)),)


def _write(folder: str, name: str, content: bytes) -> File:
    md5 = hashlib.md5(content).hexdigest()
    kept = store.object_path(md5)
    path = paths.data() / folder / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    os.link(kept, path)
    return File(name, md5, len(content))


def _glb(md5: str) -> bytes:
    text = json.dumps({"asset": {"version": "2.0", "extras": {"model_md5": md5}}}).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text
