"""`orbitforge plan`: what a preset would take, before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from orchestration import pipeline
from orchestration.planning import CHAIN, CPU, GPU, RATES, Estimate, Rates, Scale, estimates, measured, scale_of

FILES = {
    "rendered_views": 2,
    "synthetic_corpus": 2,
    "quality_labels": 3,
    "ring_views": 2,
    "multiview_model": 13,
    "candidate_views": 2,
    "curated_views": 4,
    "flexrm": 6,
    "flexrm_evaluation": 5,
    "evaluation": 17,
}
"""Of one shard; 3 of others."""


def plan_command(*, rates: Path | None, measure: bool, as_json: bool, job: str = CHAIN) -> None:
    here = pipeline.current()
    known = Rates.read(rates or RATES)
    lacking = [name for name in ("objects", "prompts") if getattr(here.preset.plan, name) is None]
    scale = scale_of(here.preset, {name: here.table(name) for name in lacking})
    if measure:
        from orchestration.lineage.current import Current

        print(yaml.safe_dump(measured(Current(here), scale, known, job), sort_keys=False), end="")
        return
    found = estimates(here.preset, scale, known, job)
    if as_json:
        rows = [vars(each.work) | {"device": each.device, "hours": each.hours, "cost": each.cost} for each in found]
        for row in rows:
            del row["on"]  # the device says it
        told = {"preset": here.preset.name, "job": job, "scale": vars(scale), "assets": rows, "total": _total(found)}
        print(json.dumps(told))
    else:
        Console().print(_table(here.preset.name, job, scale, found))


def _total(found: list[Estimate]) -> dict[str, float]:
    hours = {device: sum(each.hours for each in found if each.device == device) for device in (CPU, GPU)}
    return {
        "cpu_hours": hours[CPU],
        "gpu_hours": hours[GPU],
        "bytes": sum(each.work.bytes for each in found),
        "files": sum(each.work.shards * FILES.get(each.work.asset, 3) for each in found),
        "cost": sum(each.cost for each in found),
    }


def _table(name: str, job: str, scale: Scale, found: list[Estimate]) -> Table:
    title = f"plan {name}, {job}: {scale.objects:,} objects, {scale.prompts:,} prompts"
    if job == CHAIN:
        title += f", {scale.kept:.1%} of the clips kept"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("asset", no_wrap=True)
    for column in ("items", "shards", "work", "hours", "on", "storage", "cost"):
        table.add_column(column, justify="right")
    for each in found:
        work = each.work
        table.add_row(
            *(work.asset, f"{work.items:,}", f"{work.shards:,}", f"{work.amount:.2g} {work.unit}"),
            *(f"{each.hours:,.3g}", f"1 {each.device}", _size(work.bytes), f"{each.cost:,.2f}"),
        )
    total = _total(found)
    table.add_section()
    table.add_row(
        *("in all", "", f"{total['files']:,.0f} files", "", f"{total['gpu_hours']:,.0f} gpu", ""),
        *(_size(total["bytes"]), f"{total['cost']:,.0f}"),
    )
    table.add_row("", "", "", "", f"{total['cpu_hours']:,.1f} cpu")
    return table


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
