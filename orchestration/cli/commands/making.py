"""Making assets and saying how they stand, what a preset takes, and whether its cameras are right."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.app import JsonOption, PresetOption, prepare

commands = typer.Typer()

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would run and why; change nothing.")]

SelectOption = Annotated[
    str | None, typer.Option(help="Dagster's selection syntax: video_model, group:quality, +key:lrm_finetuned.")
]


class Job(StrEnum):
    chain = "chain"
    flexiview = "flexiview"


@commands.command()
def run(
    preset: PresetOption = None,
    select: SelectOption = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only what was made before and is out of date.")] = False,
    dry_run: DryRunOption = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many shards of each asset.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Where shards are made: local or ray; by default what the preset says.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Shards at once; default 2, or all of the cluster.")
    ] = None,
) -> None:
    """Make whatever is missing or stale, from the sample data to the 3D model."""
    prepare(preset)
    said = {"ORBITFORGE_ENGINE": engine, "ORBITFORGE_WORKERS": workers}
    os.environ |= {name: str(value) for name, value in said.items() if value}
    from orchestration.cli.run import run_command

    run_command(select=select, only_stale=stale, dry_run=dry_run, limit=limit)


@commands.command()
def status(
    preset: PresetOption = None,
    why: Annotated[bool, typer.Option("--why", help="Give the reasons.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is fresh, stale, missing, failed or running."""
    prepare(preset)
    from orchestration.cli.status import status_command

    status_command(why=why, as_json=as_json)


@commands.command()
def plan(
    preset: PresetOption = None,
    rates: Annotated[Path | None, typer.Option(help="A file like orchestration/rates.yaml.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Print the rates of this machine, from what the ledger has of the preset.")
    ] = False,
    job: Annotated[Job, typer.Option(help="The chain, or the branch of many views that comes after it.")] = Job.chain,
    as_json: JsonOption = False,
) -> None:
    """Say what a preset would take: work, shards, hours, storage and cost of each asset. Starts nothing."""
    prepare(preset)
    from orchestration.cli.plan import plan_command

    plan_command(rates=rates, measure=measure, as_json=as_json, job=job.value)


@commands.command()
def cameras(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes, a .png.")],
    preset: PresetOption = None,
) -> None:
    """Draw the axes and the cameras of a preset."""
    prepare(preset)
    from orchestration.cli.cameras import cameras_command

    cameras_command(output)


@commands.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A shard, or a folder of rendered shards.")],
    every: Annotated[int, typer.Option(min=1, help="Look at every so manyth sample of a shard.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Prove that stored cameras belong to stored views: rays of object pixels meet what the other views show."""
    prepare(None)
    from orchestration.cli.cameras import validate_command

    validate_command(folder, every=every, as_json=as_json)


@commands.command()
def base(
    preset: PresetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train the small base weights that ship with the project anew. Takes hours on two cores; resumes."""
    prepare(preset)
    from orchestration.cli.run import run_command

    run_command(job="base", dry_run=dry_run)


@commands.command()
def flexiview(
    preset: PresetOption = None,
    select: SelectOption = None,
    dry_run: DryRunOption = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many shards of each asset.")] = None,
) -> None:
    """Make what is missing or stale of the branch of many views: rings, multi-view model, candidates, curation, FlexRM.

    The chain comes first.
    """
    prepare(preset)
    from orchestration.cli.run import run_command

    run_command(job="flexiview", select=select, dry_run=dry_run, limit=limit)


@commands.command()
def scaling(
    preset: PresetOption = None,
    dry_run: DryRunOption = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many points.")] = None,
) -> None:
    """Train the missing points of the scaling experiments, and draw what all points say. The chain comes first."""
    prepare(preset)
    from orchestration.cli.run import run_command

    run_command(job="study", dry_run=dry_run, limit=limit)
