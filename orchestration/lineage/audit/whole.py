"""audit(): files, ledger, DVC, MLflow and Dagster held against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestration.lineage.audit.files import expected, file_findings
from orchestration.lineage.audit.findings import Finding
from orchestration.lineage.audit.rows import ledger_findings, pointer_findings
from orchestration.lineage.audit.services import dagster_findings, mlflow_findings
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.pipeline import Pipeline

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Audit:
    """What was found, and how much was looked at; `absent` were artifacts of presets that are not here."""

    findings: tuple[Finding, ...]
    files: int
    bytes: int
    absent: tuple[str, ...]

    def with_more(self, findings: Iterable[Finding]) -> Audit:
        return replace(self, findings=tuple(sorted({*self.findings, *findings})))

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.broken]


def audit(
    pipeline: Pipeline,
    instance: dg.DagsterInstance | None = None,
    *,
    workers: int | None = None,
    begin: Callable[[int], None] = lambda total: None,
    report: Callable[[int], None] = lambda size: None,
) -> Audit:
    """Read every byte anew and compare what everybody says of it; changes nothing. Dagster's is the project's own.

    `begin` hears how many bytes there are, `report` how many more were read. Raises OrbitforgeError for a ledger that
    cannot be understood at all.
    """
    current = Current(pipeline)
    should = expected(current)
    sizes: list[int] = []

    def began(total: int) -> None:
        sizes.append(total)
        begin(total)

    with ThreadPoolExecutor(1) as aside:
        # hashing leaves the interpreter to the rest
        hashing = aside.submit(hash_files, should.paths(), workers=workers, begin=began, report=report)
        found = [*pointer_findings(), *ledger_findings(current.ledger)]
        found += [*mlflow_findings(current), *dagster_findings(current, instance)]
        hashes = hashing.result()
    found += file_findings(should, hashes)
    return Audit(tuple(sorted(set(found))), len(hashes), sum(sizes), tuple(should.absent))
