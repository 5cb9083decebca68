"""Measuring ours beside peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.app import JsonOption, PresetOption, prepare

commands = typer.Typer()


@commands.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which bench; `list` names them.")],
    as_json: JsonOption = False,
    chart: Annotated[Path | None, typer.Option(help="Where the picture of `load` goes, an .svg.")] = None,
    preset: PresetOption = None,
) -> None:
    """Measure ours beside the peer, or the plain implementation, on the same work."""
    prepare(preset)
    from orchestration.cli.bench.registry import bench_command

    bench_command(name, as_json=as_json, chart=chart)
