"""`orbitforge import`: collections of meshes taken into a source folder that a preset can name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestration.cli.quarantined import tell_quarantined
from orchestration.cli.waits import waits
from orchestration.errors import plain_errors
from orchestration.locks import locked
from stages.errors import InputError
from stages.objects.collections.item import Item
from stages.objects.collections.open import open_collection
from stages.objects.collections.screen import screened
from stages.objects.intake import take_in
from stages.objects.prompts import make_prompts
from stages.objects.splits import TRAIN
from stages.sandbox import Limits

PROMPTS_A_SHARD = 32


def import_command(
    sources: Sequence[str],
    folder: Path,
    *,
    table: Path | None,
    licences: Sequence[str],
    shard_size: int,
    prompts: int | None,
    limits: Limits,
) -> None:
    console = Console(stderr=True)

    named = TextColumn("{task.description}", markup=False)  # as others called their files
    columns = (TextColumn("importing"), MofNCompleteColumn(), TimeElapsedColumn(), named)
    with (
        plain_errors(f"writing {folder}"),
        locked(folder / ".lock", waiting=waits(console, f"imports into {folder}")),
        tempfile.TemporaryDirectory(prefix="orbitforge-") as scratch,
        Progress(*columns, console=console) as progress,
    ):
        bar = progress.add_task("", total=None)

        def found() -> Iterator[Item]:
            for source in sources:
                collection = open_collection(source, state=folder, table=table, licences=licences, one_of_many=True)
                yield from collection.items(Path(scratch))

        intake = take_in(
            screened(found(), licences),
            folder,
            shard_size=shard_size,
            limits=limits,
            report=lambda event: progress.update(bar, completed=event["step"], description=event["message"]),
        )
    tell_quarantined(console, intake.quarantined)
    console.print(
        f"{folder}: {intake.objects} objects, {intake.taken} of them from this import",
        style="bold green",
        soft_wrap=True,
    )
    if not intake.objects:
        raise InputError(f"{folder}: nothing was taken in; the reasons stand in {folder / 'quarantine.parquet'}")
    _write_prompts(folder, prompts, console)


def _write_prompts(folder: Path, count: int | None, console: Console) -> None:
    """Prompts over the training objects, where there are none yet: what was generated for a prompt stays with it."""
    path = folder / "prompts.parquet"
    objects = pl.read_parquet(folder / "objects.parquet")
    training = len(objects.filter(pl.col("split") == TRAIN))
    if not training:
        console.print(
            f"none of {len(objects)} objects is for training: splits follow makers, so take in works of more of them",
            style="yellow",
            soft_wrap=True,
        )
    if path.exists() or not training:
        return
    prompts = make_prompts(objects, count or 2 * training, PROMPTS_A_SHARD)
    prompts.write_parquet(path)
    console.print(f"{path}: {len(prompts)} prompts", highlight=False, soft_wrap=True)
