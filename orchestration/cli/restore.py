"""`orbitforge restore`: tell Dagster and MLflow again what the ledger knows."""

from __future__ import annotations

from rich.console import Console

from orchestration import paths, pipeline
from orchestration.cli.progress import working
from orchestration.home import open_instance
from orchestration.lineage.idle import refuse_running
from orchestration.lineage.restore import restore
from orchestration.resources import store
from orchestration.resources.tracking import Tracking


def restore_command() -> None:
    console = Console()
    refuse_running("restoring")
    count = 0
    with open_instance() as instance, working(Console(stderr=True), "restoring"):
        for line in restore(pipeline.current(), instance, Tracking()):
            count += 1
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if count:
        store.publish({}, also=[paths.ledger()])
    console.print("Dagster and MLflow know what the ledger knows" if count else "nothing was lost", style="bold green")
