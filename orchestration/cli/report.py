"""`orbitforge report`: one page of what was measured and where it came from."""

from __future__ import annotations

from pathlib import Path

from orchestration.report.page import write


def report_command(output: Path) -> None:
    written = write(output)
    print(f"{written}: {written.stat().st_size / 1000:,.0f} kB, opens in any browser")
