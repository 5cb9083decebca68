"""`orbitforge accept`: after a refactoring, let new code stand for old."""

from __future__ import annotations

from rich.console import Console

from orchestration import pipeline
from orchestration.errors import OrbitforgeError
from orchestration.lineage.accept import accept
from orchestration.lineage.current import Current
from orchestration.lineage.people import given_reason, named_person
from orchestration.steps import Step
from orchestration.tasks import name_of


def accept_command(asset: str, reason: str, by: str | None) -> None:
    here = pipeline.current()
    step = here.find(asset)
    if not isinstance(step, Step):
        raise OrbitforgeError(f"{asset} is observed, not made: it has no code")
    words, person = given_reason(reason), named_person(by)
    for row in accept(Current(here), step, reason=words, by=person, report=lambda event: None):
        proof = (
            f"{name_of(row.asset, row.shard)} came out with equal bytes" if row.service == "bytes" else "on their word"
        )
        print(f"{asset}: code {row.code[:8]} stands for the code of row {row.about}, accepted by {row.by}, {proof}")
    Console(stderr=True).print("the next run finds it fresh")
