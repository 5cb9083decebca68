"""`orbitforge status`: from the ledger and the current versions; Dagster is not asked."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from orchestration import pipeline
from orchestration.lineage.staleness import FAILED, FRESH, MISSING, RUNNING, STALE, AssetStatus, status

COLOURS = {FRESH: "green", STALE: "yellow", MISSING: "dim", FAILED: "red", RUNNING: "cyan"}


def status_command(*, why: bool, as_json: bool) -> None:
    here = pipeline.current()
    states = status(here)
    if as_json:
        print(json.dumps({"assets": [state.as_json() for state in states]}, indent=2))
    else:
        Console().print(status_table(states, f"preset {here.preset.name}", why=why))


def status_table(states: Sequence[AssetStatus], title: str, *, why: bool) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("asset", "status", "shards fresh", "data version", *(("why",) if why else ())):
        table.add_column(column, overflow="fold")
    for state in states:
        counts = state.as_json()["shards"]
        shards = f"{counts['fresh']} of {counts['total']}" if state.shards[:1] and state.shards[0].shard else ""
        cells = [state.asset, f"[{COLOURS[state.status]}]{state.status}[/]", shards, (state.version or "")[:12]]
        table.add_row(*cells, *(("; ".join(state.why),) if why else ()))
    return table
