"""`orbitforge run` and `orbitforge base`: make whatever is not fresh."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from orchestration import pipeline
from orchestration.chain import Part, plan, run_chain
from orchestration.cli.progress import Bars
from orchestration.cli.results import print_results
from orchestration.cli.sample import fetch_sample
from orchestration.cli.status import status_text
from orchestration.errors import OrbitforgeError
from orchestration.home import open_instance
from orchestration.lineage.current import Current
from orchestration.lineage.reconcile import reconcile, untold
from orchestration.lineage.staleness import MISSING, AssetStatus, status
from orchestration.pipeline import Pipeline
from orchestration.resources.runs import free_dead_runs
from orchestration.resources.tracking import Tracking

if TYPE_CHECKING:
    import dagster as dg

FINDINGS_TOLD = 5


def run_command(
    *,
    job: str = "chain",
    select: str | None = None,
    only_stale: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
) -> None:
    console = Console(stderr=True)
    began = time.monotonic()
    here = pipeline.current()
    fetch_sample(console)
    choice: dict[str, Any] = {
        "job": job,
        "select": _selected(select, here, job) if select else None,
        "only_stale": only_stale,
        "limit": limit,
    }
    if dry_run:
        _foretell(console, here, choice)
        return
    with open_instance() as instance, Bars(console) as bars:
        findings = reconcile(here, instance, bars.of("reconciling"))
        for finding in findings[:FINDINGS_TOLD]:
            console.print(f"put right: {finding}", style="yellow", highlight=False)
        if more := findings[FINDINGS_TOLD:]:
            console.print(f"put right: {len(more)} more of the kind", style="yellow")
        for run_id in free_dead_runs(instance):
            console.print(f"run {run_id} was killed; its slots are free again", style="yellow", highlight=False)
        states = status(here)
        parts = plan(here, states, **choice)
        if parts:
            _refuse_missing_base(here, states, parts)
            del states  # as large as the shards are many
            parts = _execute(console, bars, instance, here, choice)
    seconds = time.monotonic() - began
    if parts:
        _tell_untold(console, here)
        made = sum(len(part.assets) for part in parts)
        console.print(f"made {made} asset{'s' * (made > 1)} in {seconds:.0f} s", style="bold green")
    else:
        console.print(f"nothing is stale: preset {here.preset.name}, {seconds:.1f} s", style="bold green")
    print_results(Console(), here)


def _execute(
    console: Console, bars: Bars, instance: dg.DagsterInstance, here: Pipeline, choice: dict[str, Any]
) -> list[Part]:
    from orchestration.artifacts import LISTENERS
    from orchestration.definitions import defs

    Tracking().check()

    def announce(part: Part, run_id: str) -> None:
        console.print(f"[bold]{part.group}[/] [dim]run {run_id}[/]", highlight=False)
        bars.of("starting the run")()

    LISTENERS.append(bars.hear)
    try:
        return run_chain(
            defs, instance, here, announce=announce, report=bars.of("telling Dagster of sources"), **choice
        )
    finally:
        LISTENERS.remove(bars.hear)


def _tell_untold(console: Console, here: Pipeline) -> None:
    """Say what MLflow was away for."""
    current = Current(here)
    rows = (current.row(step.name) for step in here.steps if step.kind == "model" and not step.shards)
    for row in untold(here, current, filter(None, rows)):
        console.print(f"{row.asset} is made, but MLflow did not take it: the next run tells it", style="yellow")


def _refuse_missing_base(here: Pipeline, states: list[AssetStatus], parts: list[Part]) -> None:
    """Raise when something is needed that ships and that no part makes, and it is not there."""
    made = {asset for part in parts for asset in part.assets}
    read = {name for step in here.steps if step.name in made for name in step.reads}
    ships = {step.name for step in here.steps if step.job == "base"}
    for state in states:
        if state.asset in (read & ships) - made and state.status == MISSING:
            raise OrbitforgeError(
                f"{state.asset} is missing and ships with the project: fetch it with "
                f"`dvc pull -r sample data/{state.asset} data/ledger`, or make it in hours with `orbitforge base`"
            )


def _foretell(console: Console, here: Pipeline, choice: dict[str, Any]) -> None:
    states = status(here)
    made = {asset for part in plan(here, states, **choice) for asset in part.assets}
    if made:
        title = f"would make, preset {here.preset.name}"
        console.print(status_text([s for s in states if s.asset in made], title, why=True), soft_wrap=True)
    else:
        console.print(f"nothing is stale: preset {here.preset.name}")


def _selected(selection: str, here: Pipeline, job: str) -> frozenset[str]:
    """The assets that a selection in Dagster's syntax names."""
    import dagster as dg

    from orchestration.definitions import defs

    try:
        keys = dg.AssetSelection.from_string(selection).resolve(defs.resolve_asset_graph())
    except dg.DagsterError as error:
        raise OrbitforgeError(f"--select {selection!r}: {' '.join(str(error).split())}") from None
    steps = frozenset(step.name for step in here.steps if step.job == job)
    chosen = frozenset(key.to_user_string() for key in keys) & steps
    if not chosen:
        raise OrbitforgeError(
            f"--select {selection!r} names no asset of the {job}; choose among {', '.join(sorted(steps))}"
        )
    return chosen
