"""Clocks that were set: what a process believes the time is, from now on."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

YEAR = 365.25 * 86400.0


def a_year_back(root: Path) -> None:
    shift(-YEAR)


def ten_years_ahead(root: Path) -> None:
    shift(10 * YEAR)


def shift(seconds: float) -> None:
    """Everything in this process that asks Python for the time is `seconds` off. File systems keep their own."""
    true = time.time

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(true() + seconds, tz)

    time.time = lambda: true() + seconds
    time.time_ns = lambda: int((true() + seconds) * 1e9)
    from orchestration.lineage import ledger

    ledger.datetime = Shifted  # pyright: ignore[reportPrivateImportUsage]
