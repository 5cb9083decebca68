"""`orbitforge report`: one page of what was measured and where it came from."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from orchestration import paths, pipeline
from orchestration.cli.progress import working
from orchestration.report.page import write
from orchestration.report.tables import EVALUATION


def report_command(output: Path) -> None:
    with working(Console(stderr=True), "drawing the page"):
        written = write(output).resolve()
    size = written.stat().st_size
    if (paths.data() / pipeline.current().preset.name / EVALUATION).is_dir():
        _tell_dagster(written, size)
    print(f"{output}: {size / 1000:,.0f} kB, opens in any browser")


def _tell_dagster(page: Path, size: int) -> None:
    """Link the page from what it shows."""
    import dagster as dg

    from orchestration.home import open_instance

    facts = {"report": dg.MetadataValue.path(str(page)), "bytes": size}
    with open_instance() as instance:
        instance.report_runless_asset_event(dg.AssetObservation(EVALUATION, metadata=facts))
