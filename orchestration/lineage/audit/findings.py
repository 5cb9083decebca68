"""What an audit has to say."""

from __future__ import annotations

from dataclasses import dataclass

FILE, LEDGER, DVC, MLFLOW, DAGSTER = "file", "ledger", "dvc", "mlflow", "dagster"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it should be.

    `where` is who disagrees (file, ledger, dvc, mlflow, dagster), `what` names the file, row or version, `found` says
    what is wrong with the values, `way_out` what to do. What is not `broken` is only behind: the next run mends it.
    """

    where: str
    what: str
    found: str
    way_out: str
    broken: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.found}; {self.way_out}"
