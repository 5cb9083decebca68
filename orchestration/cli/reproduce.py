"""`orbitforge reproduce`: make a version again, and say whether it is the same."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from orchestration import pipeline
from orchestration.cli.progress import Bars, working
from orchestration.lineage.current import Current
from orchestration.lineage.exact import reproduce_exactly
from orchestration.lineage.find import find_row
from orchestration.lineage.ledger import Row
from orchestration.lineage.reproduce import ADOPTED, EQUAL, Comparison, refuse, reproduce, rows_to_make

STYLES = {"equal": "green", "close": "yellow", "adopted": "dim", "different": "bold red"}


def reproduce_command(target: str, *, everything: bool, exact: bool, as_json: bool) -> None:
    """Print a line for each artifact; exit with 1 when one is not what it was."""
    console = Console(stderr=True)
    current = Current(pipeline.current())
    rows = rows_to_make(current, find_row(current, target), everything=everything)
    if exact:
        with working(console, "making it again"):
            done = _shown(reproduce_exactly(current, rows, console.print), as_json)
    else:
        refuse(current, rows)
        with Bars(console) as bars:

            def report(row: Row, event: dict[str, Any]) -> None:
                bars.hear(row.asset, row.shard, event)

            done = list(reproduce(current, rows, report))
        _shown(done, as_json)
    if as_json:
        print(json.dumps([comparison.as_json() for comparison in done], indent=2))
    if not all(comparison.holds for comparison in done):
        sys.exit(1)


def _shown(comparisons: Any, as_json: bool) -> list[Comparison]:
    console, done = Console(), []
    for comparison in comparisons:
        done.append(comparison)
        if as_json:
            continue
        style = STYLES[comparison.result]
        said = escape(f"{comparison.name}  {comparison.words}")
        console.print(f"[{style}]{comparison.result:9}[/] {said}", highlight=False, soft_wrap=True)
        for path, (then, now) in comparison.files.items():
            console.print(f"          {path}: was {then}, is {now}", highlight=False)
        for name, (then, now) in comparison.metrics.items():
            console.print(f"          {name}: was {then:.6g}, is {now:.6g}", highlight=False)
    if not as_json:
        made = [comparison.result for comparison in done if comparison.result != ADOPTED]
        console.print(f"{made.count(EQUAL)} of {len(made)} artifacts have the same bytes", style="bold")
    return done
