"""`orbitforge withdraw`: an object or a prompt goes, and everything that holds it is stale."""

from __future__ import annotations

from contextlib import nullcontext

from rich.console import Console
from rich.markup import escape

from orchestration import pipeline
from orchestration.cli.progress import working
from orchestration.lineage.current import Current
from orchestration.lineage.idle import alone
from orchestration.lineage.people import given_reason, named_person
from orchestration.lineage.purge import purge, to_purge
from orchestration.lineage.withdraw import entries, holders, refuse_withdrawn, withdraw
from orchestration.pipeline import Pipeline
from orchestration.steps import Step
from orchestration.tasks import name_of


def withdraw_command(id_: str, *, reason: str, by: str | None, purging: bool, dry_run: bool) -> None:
    console = Console()
    here = pipeline.current()
    words, person = given_reason(reason), named_person(by)
    with alone("purging") if purging and not dry_run else nullcontext():  # what is found to hold it is all that does
        _withdraw(console, here, id_, words, person, purging, dry_run)


def _withdraw(
    console: Console, here: Pipeline, id_: str, words: str, person: str, purging: bool, dry_run: bool
) -> None:
    current = Current(here)
    gone = entries(here, id_)
    refuse_withdrawn(current, gone, purging=purging)
    held = holders(current, gone)
    files = to_purge(current, gone, [each.row for each in held]) if purging else []
    console.print(
        f"{id_} and what goes with it: {len(gone)} entries of {', '.join(dict.fromkeys(e.source.name for e in gone))}"
    )
    lies = [each.row for each in held if each.newest]
    for row in lies:
        console.print(
            escape(f"  held by {row.preset}/{name_of(row.asset, row.shard)} (row {row.id[:12]})"), highlight=False
        )
    if purging:
        size = sum(file.size for file in files)
        console.print(f"to purge: {len(files)} files, {size / 1e6:,.1f} MB, from data/, the cache and every remote")
    if dry_run:
        console.print("nothing was changed")
        return
    withdraw(here, id_, gone, reason=words, by=person, purged=files)
    if purging:
        with working(Console(stderr=True), f"purging {len(files):,} files"):
            purge(current, gone, files)
        console.print(
            "purged; commit data.dvc and dvc-sample. What old revisions of git hold stays there until its history is "
            "rewritten"
        )
    kept = sorted({row.asset for row in lies if isinstance(s := here.find(row.asset), Step) and s.kind == "model"})
    console.print(f"withdrawn by {person}: {words}", style="bold")
    if kept:
        console.print(f"weights that learned from it stay until they are made again: {', '.join(kept)}")
