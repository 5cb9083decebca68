"""Where versions come from, what lies between them, whether they hold, and what becomes of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.app import ByOption, JsonOption, PresetOption, ReasonOption, prepare

commands = typer.Typer()


class Depth(StrEnum):
    one = "one"
    all = "all"


class Layout(StrEnum):
    tree = "tree"
    mermaid = "mermaid"
    modelcard = "modelcard"
    croissant = "croissant"
    cyclonedx = "cyclonedx"
    json = "json"


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]


@commands.command()
def audit(
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that read; default one for each CPU.")] = None,
    remote: Annotated[str | None, typer.Option(help="Ask this DVC remote, too, whether it holds everything.")] = None,
    as_json: JsonOption = False,
    preset: PresetOption = None,
) -> None:
    """Read every byte anew and hold files, ledger, DVC, MLflow and Dagster against each other."""
    prepare(preset)
    from orchestration.cli.audit import audit_command

    audit_command(workers=workers, remote=remote, as_json=as_json)


@commands.command()
def lineage(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|ASSET|FILE", help="Also a row id, a data version, or the id of an object, prompt or label."
        ),
    ],
    layout: Annotated[Layout, typer.Option("--format", "-f", help="How to write it.")] = Layout.tree,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    forward: Annotated[
        bool, typer.Option("--forward", help="What was made of it, instead of what it came from.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default standard output.")] = None,
    preset: PresetOption = None,
) -> None:
    """Say where something came from: corpus, labels, weights, meshes, licences, code, config, seeds, environment."""
    prepare(preset)
    from orchestration.cli.lineage import lineage_command

    lineage_command(target, layout=Layout.json if as_json else layout, forward=forward, output=output)


@commands.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A version: an asset, models:/NAME/NUMBER, a row id.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    as_json: JsonOption = False,
    preset: PresetOption = None,
) -> None:
    """Say what lies between two versions: source rows, labels, clips, config, code, environment, metrics."""
    prepare(preset)
    from orchestration.cli.diff import diff_command

    diff_command(first, second, as_json=as_json)


@commands.command()
def accept(
    asset: Annotated[str, typer.Argument(help="Whose code was refactored.")],
    reason: ReasonOption,
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """After a refactoring: make one shard again and, if its bytes are equal, let the new code stand for the old."""
    prepare(preset)
    from orchestration.cli.accept import accept_command

    accept_command(asset, reason, by)


@commands.command()
def withdraw(
    id_: Annotated[str, typer.Argument(metavar="OBJECT|PROMPT|LABEL", help="An id of a source table.")],
    reason: ReasonOption,
    by: ByOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its bytes from data/, cache and remotes.")] = False,
    dry_run: DryRunOption = False,
    preset: PresetOption = None,
) -> None:
    """Take something out of everything that is made from now on; what holds it becomes stale."""
    prepare(preset)
    from orchestration.cli.withdraw import withdraw_command

    withdraw_command(id_, reason=reason, by=by, purging=purge, dry_run=dry_run)


@commands.command()
def promote(
    version: Annotated[str, typer.Argument(help="A model version: models:/tiny-lrm_finetuned/3, a row id, an asset.")],
    reason: ReasonOption,
    to: Annotated[str, typer.Option(help="The alias.")] = "production",
    by: ByOption = None,
    preset: PresetOption = None,
) -> None:
    """Give a model an alias, unless audit, logged metrics, licence policy or a dirty tree speak against it."""
    prepare(preset)
    from orchestration.cli.promote import promote_command

    promote_command(version, alias=to, reason=reason, by=by)


@commands.command()
def restore(preset: PresetOption = None) -> None:
    """After the loss of Dagster's or MLflow's database, tell both again what the ledger knows."""
    prepare(preset)
    from orchestration.cli.restore import restore_command

    restore_command()


@commands.command()
def gc(
    keep: Annotated[str, typer.Option(help="promoted+ancestors, or promoted.")] = "promoted+ancestors",
    dry_run: DryRunOption = False,
    preset: PresetOption = None,
) -> None:
    """Remove from the cache what is neither current, nor named by git, nor promoted."""
    prepare(preset)
    from orchestration.cli.gc import gc_command

    gc_command(keep, dry_run=dry_run)


@commands.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="A model version, asset, row id or data version.")],
    depth: Annotated[Depth, typer.Option(help="The version alone, or all that was made on the way to it.")] = Depth.one,
    exact: Annotated[
        bool, typer.Option("--exact", help="With the code and libraries of then: a git worktree, an environment.")
    ] = False,
    as_json: JsonOption = False,
    preset: PresetOption = None,
) -> None:
    """Make a version again in scratch, of the inputs that the ledger names, and compare it byte by byte."""
    prepare(preset)
    from orchestration.cli.reproduce import reproduce_command

    reproduce_command(version, everything=depth == Depth.all, exact=exact, as_json=as_json)
