"""The benches by name, and how their rows are shown."""

from __future__ import annotations

import importlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestration.errors import OrbitforgeError

BENCHES = {
    "chain": "time and peak memory of the chain by step, from empty",
    "corpus": "clips of the video model beside rendered orbits: training objects at new cameras, held-out objects",
    "evaluation": "the fine-tuned LRM on held-out objects, over training seeds, beside its baselines",
    "flexrm": "drawing Gaussians, curation of spoiled pools, and FlexRM from more and more views over three seeds",
    "labels": "the judge on spoiled clips, elevations, labelling beside the bare encoder, a corpus's manifest",
    "load": "1,000, 3,000 and 10,000 shards with tiny payloads made, labelled, judged, resumed and asked about",
    "lrm": "the renderer, grids and training step of the reconstruction model beside a plain implementation",
    "lineage": "staleness, lineage, recording and audit of thousands of shards, beside Dagster and plain md5",
    "reconstruction": "the models of the preset on held-out objects: pictures, features and surfaces, beside baselines",
    "text_to_image": "colour and category of pictures drawn from text, as judges of renders see them",
    "render": "speed of the renderer beside Blender Cycles and OpenGL, its pixels beside embree and OpenGL",
}
"""Name -> what it measures. A bench is a module of this package with `measure(report) -> list[Row]`."""
CHARTS = ("load",)
"""Those that draw one."""


@dataclass(frozen=True)
class Row:
    """One line: `ours` beside `peer` on the same `work`, in `unit`.

    `target` is the largest `ours` that is good, or with `at_least` the smallest. `ratio` is peer over ours;
    `max_diff` says how far the results differ. What was not measured is None.
    """

    work: str
    unit: str
    ours: float
    peer: float | None = None
    target: float | None = None
    max_diff: float | None = None
    at_least: bool = False

    def as_json(self) -> dict[str, Any]:
        ratio = None if not self.peer or not self.ours else self.peer / self.ours
        met = None
        if self.target is not None:
            met = self.ours >= self.target if self.at_least else self.ours <= self.target
        row = asdict(self) | {"ratio": ratio, "met": met}
        del row["at_least"]
        return row


def bench_command(name: str, *, as_json: bool, chart: Path | None = None) -> None:
    """Run one bench. It never fails because it is slow: `met` says so. Raises OrbitforgeError for a `chart` of a bench
    that has none (a module `<name>_chart` with `draw(rows, file)`)."""
    if name not in BENCHES:
        known = "; ".join(f"{known}: {what}" for known, what in BENCHES.items())
        if name != "list":
            raise OrbitforgeError(f"no bench {name!r}; there are {known}")
        print(known)
        return
    if chart and name not in CHARTS:
        raise OrbitforgeError(f"bench {name} draws no chart; {', '.join(CHARTS)} does")
    console = Console(stderr=True)
    rows = importlib.import_module(f"orchestration.cli.bench.{name}").measure(partial(console.print, soft_wrap=True))
    if chart:
        importlib.import_module(f"orchestration.cli.bench.{name}_chart").draw(rows, chart)
    if as_json:
        print(json.dumps({"bench": name, "machine": machine(), "rows": [row.as_json() for row in rows]}))
    else:
        Console().print(_table(name, rows))


def machine() -> dict[str, Any]:
    import psutil

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load": round(os.getloadavg()[0], 2),
    }


def _table(name: str, rows: list[Row]) -> Table:
    table = Table(title=f"bench {name}", title_justify="left", box=None, pad_edge=False)
    table.add_column("work")
    for column in ("unit", "ours", "peer", "ratio", "target", "met", "max diff"):
        table.add_column(column, justify="right")
    for row in rows:
        shown = row.as_json()
        numbers = [shown[key] for key in ("ours", "peer", "ratio", "target", "met", "max_diff")]
        table.add_row(row.work, row.unit, *(_cell(number) for number in numbers))
    return table


def _cell(value: float | bool | None) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3g}"
