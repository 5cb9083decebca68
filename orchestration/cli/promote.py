"""`orbitforge promote`: give a model version an alias, if nothing speaks against it."""

from __future__ import annotations

from rich.console import Console

from orchestration import pipeline
from orchestration.cli.progress import working
from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.whole import audit
from orchestration.lineage.current import Current
from orchestration.lineage.find import find_row, step_of
from orchestration.lineage.people import given_reason, named_person
from orchestration.lineage.policy import load_policy
from orchestration.lineage.promote import obstacles, promote
from orchestration.lineage.record import record
from orchestration.tasks import name_of


def promote_command(version: str, *, alias: str, reason: str, by: str | None) -> None:
    console = Console()
    here = pipeline.current()
    current = Current(here)
    row = find_row(current, version)
    name = name_of(row.asset, row.shard)
    if step_of(current, row).kind != "model":
        raise OrbitforgeError(f"{name} is no model; only models are promoted")
    words, person = given_reason(reason), named_person(by)
    with working(Console(stderr=True), "auditing"):
        found = list(obstacles(current, record(current, row), load_policy(), lambda: audit(here)))
    for obstacle in found:
        console.print(f"  - {obstacle}", style="red", markup=False, highlight=False, soft_wrap=True)
    if found:
        count = "one thing speaks" if len(found) == 1 else f"{len(found)} things speak"
        raise OrbitforgeError(f"{name} is not promoted to {alias}: {count} against it")
    told = promote(current, row, alias=alias, reason=words, by=person)
    console.print(f"{row.preset}-{row.asset} {row.version} is {told.service} now, by {told.by}: {told.reference}")
