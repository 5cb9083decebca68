"""`orbitforge import-clips`: clips made elsewhere, taken into a source folder that a preset can name."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestration import paths
from orchestration.cli.quarantined import tell_quarantined
from orchestration.cli.waits import waits
from orchestration.errors import OrbitforgeError, plain_errors
from orchestration.lineage.ledger import IMPORTED, Ledger, Row, now
from orchestration.lineage.people import named_person
from orchestration.locks import locked
from orchestration.presets.schema import current_preset
from stages.corpus.clip_files import ClipFormat
from stages.corpus.imported import CLIPS, ClipIntake, take_in_clips
from stages.errors import InputError
from stages.prompts.screen import ScreenConfig, read_unsafe
from stages.sandbox import Limits

CORPUS = "synthetic_corpus"


def import_clips_command(
    folder: Path,
    table: Path,
    output: Path,
    *,
    licence: str | None,
    creator: str | None,
    frames: int | None,
    size: int | None,
    shard_size: int,
    limits: Limits,
    by: str | None,
    as_json: bool,
) -> None:
    if not output.resolve().is_relative_to(paths.data().resolve()):
        raise OrbitforgeError(f"{output} is not below {paths.data()}, where presets look for source folders")
    preset, person = current_preset(), named_person(by)
    video, rendering = preset.base.video.video, preset.rendering
    form = ClipFormat(frames or video.frames, size or video.size, rendering.radius, rendering.focal)
    console = Console(stderr=True)
    named = TextColumn("{task.description}", markup=False)  # as others called their files
    columns = (TextColumn("importing"), MofNCompleteColumn(), TimeElapsedColumn(), named)
    output.mkdir(parents=True, exist_ok=True)
    started = now()

    with (
        plain_errors(f"writing {output}"),
        locked(output / ".lock", waiting=waits(console, f"imports into {output}")),
        Progress(*columns, console=console) as progress,
    ):
        bar = progress.add_task("", total=None)
        intake = take_in_clips(
            folder,
            table,
            output,
            form,
            licence=licence,
            creator=creator,
            unsafe=read_unsafe(),
            screen=ScreenConfig.model_validate({}),
            shard_size=shard_size,
            limits=limits,
            report=lambda event: progress.update(
                bar, completed=event["step"], total=event["of"], description=event["message"]
            ),
        )
        _record(output, folder, intake, preset.name, person, started)
    if as_json:
        facts = {"clips": intake.clips, "taken": intake.taken, "shards": intake.shards}
        typer.echo(json.dumps(facts | {"quarantined": intake.quarantined}))
    tell_quarantined(console, intake.quarantined)
    console.print(
        f"{output}: {intake.clips} clips, {intake.taken} of them from this import",
        style="bold green",
        soft_wrap=True,
        highlight=False,
    )
    if not intake.clips:
        raise InputError(f"{output}: nothing was taken in; the reasons stand in {output / CLIPS}-quarantine.parquet")


def _record(output: Path, folder: Path, intake: ClipIntake, preset: str, person: str, started: str) -> None:
    """One row a new shard: what was made elsewhere, whence, and under which licences."""
    if not intake.shards:
        return
    prompts = pl.read_parquet(output / "prompts.parquet")
    rows = []
    for shard in intake.shards:
        clips = prompts.filter(pl.col("shard") == shard)
        licences = ", ".join(clips["licence"].unique().sort())
        rows.append(
            Row(
                kind=IMPORTED,
                preset=preset,
                asset=CORPUS,
                shard=shard,
                about=output.resolve().relative_to(paths.data().resolve()).as_posix(),
                reference=f"{len(clips)} clips of the folder {folder.resolve().name}; {licences}",
                metrics={"clips": float(len(clips))},
                started=started,
                ended=now(),
                by=person,
            )
        )
    Ledger().append(*rows)
