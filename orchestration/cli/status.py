"""`orbitforge status`: from the ledger and the current versions; Dagster is not asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestration import pipeline
from orchestration.lineage.staleness import FAILED, FRESH, MISSING, RUNNING, STALE, AssetStatus, Rerun, status
from orchestration.progress import GONE, duration, words

COLOURS = {FRESH: "green", STALE: "yellow", MISSING: "dim", FAILED: "red", RUNNING: "cyan"}


def status_command(*, why: bool, as_json: bool) -> None:
    here = pipeline.current()
    states = status(here)
    if as_json:
        print(json.dumps(_as_json(states), indent=2))
    else:
        Console().print(status_text(states, f"preset {here.preset.name}", why=why), soft_wrap=True)


def _as_json(states: Sequence[AssetStatus]) -> dict[str, object]:
    """`{"assets": [...], "rerun": {asset: {"shards", "seconds", "bytes"}}}` for assets that are not fresh.

    Seconds and bytes are null where nothing like it was ever made.
    """
    rerun = {state.asset: vars(state.rerun) for state in states if state.status != FRESH}
    return {"assets": [state.as_json() for state in states], "rerun": rerun}


def status_text(states: Sequence[AssetStatus], title: str, *, why: bool) -> Text:
    """A line for each asset; with `why` its reasons below it, and at the end what a run would touch."""
    text = Text(f"{title}\n", style="")
    width = max((len(state.asset) for state in states), default=0)
    text.append(f"{'asset':{width}}  status   shards fresh  data version\n", style="bold")
    for state in states:
        counts = state.as_json()["shards"]
        shards = f"{counts['fresh']} of {counts['total']}" if state.shards[:1] and state.shards[0].shard else ""
        text.append(f"{state.asset:{width}}  ")
        text.append(f"{state.status:7}", style=COLOURS[state.status])
        text.append(f"  {shards:12}  {(state.version or '')[:12]}\n")
        if state.progress:
            text.append(*_progress(state.progress))
        if why and state.status != FRESH:
            for reason in state.why:
                text.append(f"    {reason}\n")
            text.append(f"    {_words(state.rerun)}\n", style="dim")
    todo = Rerun.of(shard for state in states if state.job == "chain" for shard in state.shards)
    if why and todo.shards:
        text.append(f"a run has {_words(todo)}; less where bytes come out as they were\n", style="dim")
    text.right_crop()
    return text


def _progress(told: dict[str, Any]) -> tuple[str, str]:
    """A line and its style: `412 of 10,000 shards, 3.4 clips/s, 52 min left; pid 71 on here, heard 3 s ago`."""
    who = f"pid {told['pid']} on {told['host']}, heard {duration(told['age'])} ago"
    if told["state"] == GONE:
        return f"    was killed: {words(told)}; {who}; a run goes on from there\n", "red"
    return f"    {words(told)}; {who}\n", "cyan"


def _words(rerun: Rerun) -> str:
    """`2 artifacts, about 12 s, 1.1 MB`."""
    things = f"to make: {rerun.shards} artifact{'s' if rerun.shards > 1 else ''}"
    if rerun.seconds is None or rerun.bytes is None:
        return f"{things}, nobody knows how long: never made before"
    return f"{things}, about {duration(rerun.seconds)}, {rerun.bytes / 1e6:,.1f} MB"
