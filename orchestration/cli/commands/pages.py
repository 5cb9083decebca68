"""Pages: label, demo, and those of Dagster and MLflow, served on this machine alone; the report, which is a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.app import CheckpointOption, DeviceOption, KindOption, PresetOption, SaliencyOption, prepare

commands = typer.Typer()

PortOption = Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")]
BrowserOption = Annotated[bool, typer.Option(help="Open the page in your browser.")]


@commands.command()
def label(
    by: Annotated[str | None, typer.Option(help="Who judges; without it, the page asks.")] = None,
    port: PortOption = 7860,
    browser: BrowserOption = True,
    preset: PresetOption = None,
) -> None:
    """Judge clips of the corpus in a page on this machine; the classifier learns from the verdicts."""
    prepare(preset)
    from orchestration.cli.label import label_command

    label_command(port, by=by, browser=browser)


@commands.command()
def demo(
    port: PortOption = 7861,
    browser: BrowserOption = True,
    checkpoint: CheckpointOption = None,
    kind: KindOption = None,
    device: DeviceOption = "cpu",
    saliency: SaliencyOption = None,
    preset: PresetOption = None,
) -> None:
    """Drop a picture into a page on this machine, or type a sentence: a mesh to turn around and to download."""
    prepare(preset)
    from orchestration.cli.demo import demo_command

    demo_command(port, browser=browser, checkpoint=checkpoint, kind=kind, device=device, saliency=saliency)


@commands.command()
def ui(
    port: Annotated[int, typer.Option(help="Of Dagster.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Of MLflow.")] = 5000,
    preset: PresetOption = None,
) -> None:
    """Serve Dagster and MLflow on this machine, reachable from this machine alone."""
    prepare(preset)
    from orchestration.cli.ui import ui_command

    ui_command(port, mlflow_port)


@commands.command()
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.")] = Path("report.html"),
    preset: PresetOption = None,
) -> None:
    """Write figures, trends, gallery and lineage as one HTML file, which opens without a server or network."""
    prepare(preset)
    from orchestration.cli.report import report_command

    report_command(output)
