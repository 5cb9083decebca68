"""The chart of `bench load`: what a shard costs, by step, against how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestration.cli.bench.registry import Row

EACH = "ms CPU a shard"
NAMED = 0.25
"""Milliseconds; what costs less at the largest number is drawn grey and has no name."""


def draw(rows: Iterable[Row], file: Path) -> None:
    """A line a step over the rows in `EACH`, whose work ends in ", <number> shards"; an .svg without date or ids."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.unit == EACH:
            step, _, count = row.work.removesuffix(" shards").rpartition(", ")
            lines.setdefault(step, []).append((int(count.replace(",", "")), row.ours))
    with mpl.rc_context({"svg.hashsalt": "orbitforge", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for step, points in sorted(lines.items(), key=lambda line: -max(line[1])[1]):
            points.sort()
            named = points[-1][1] >= NAMED
            style = {"label": step} if named else {"color": "lightgrey", "zorder": 0}
            axes.plot(*zip(*points, strict=True), "o-", ms=4, lw=1.2, **style)  # pyright: ignore[reportArgumentType]
        counts = sorted({count for points in lines.values() for count, _ in points})
        axes.set(xscale="log", yscale="log", xlabel="shards", ylabel="CPU milliseconds a shard")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        figure.savefig(file, metadata={"Date": None, "Creator": None})
