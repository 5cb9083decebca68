"""`orbitforge diff`: what lies between two versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestration import pipeline
from orchestration.lineage.current import Current
from orchestration.lineage.diff import Changed, Diff, diff
from orchestration.lineage.exports.words import title
from orchestration.lineage.find import find_row
from orchestration.lineage.record import record

SHOWN = 10


def diff_command(first: str, second: str, *, as_json: bool) -> None:
    current = Current(pipeline.current())
    before, after = (record(current, find_row(current, text)) for text in (first, second))
    found = diff(current, before, after)
    if as_json:
        print(json.dumps({"first": before.row.id, "second": after.row.id, **found.as_json()}, indent=2))
        return
    print(f"- {title(before.row)} {before.row.version}, {before.row.ended[:19]}")
    print(f"+ {title(after.row)} {after.row.version}, {after.row.ended[:19]}")
    for line in _lines(found):
        print(line)
    if not found:
        print("nothing lies between them")


def _lines(found: Diff) -> Iterator[str]:
    for asset, which in sorted(found.assets.items()):
        yield f"{asset}: {which}"
    for name, changed in found.tables.items():
        yield f"{name}: {len(changed.added)} came, {len(changed.removed)} went, {len(changed.changed)} changed"
        yield from _entries(changed)
    for name, reasons in (("config", found.config), ("code", found.code)):
        for asset, words in reasons.items():
            yield f"{name} of {asset}:"
            yield from (f"    {word}" for word in words)
    if found.drift:
        yield "drift of the corpus:"
        yield from (f"    {_drifted(row)}" for row in found.drift[:SHOWN])
    for name in found.lost:
        yield f"not counted, because the cache has lost it: {name}"
    if found.environment:
        yield "environment:"
        yield from (f"    {word}" for word in found.environment)
    if found.metrics:
        yield "metrics:"
        yield from (f"    {name}: {_number(then)} -> {_number(now)}" for name, (then, now) in found.metrics.items())


def _entries(changed: Changed) -> Iterator[str]:
    lines = [f"    + {id_}" for id_ in changed.added] + [f"    - {id_}" for id_ in changed.removed]
    for id_, columns in changed.changed.items():
        lines.append(f"    ~ {id_}: " + ", ".join(f"{column} {then!r} -> {now!r}" for column, then, now in columns))
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"    and {len(lines) - SHOWN} more: --json lists them"


def _drifted(row: dict[str, Any]) -> str:
    apart = "" if row["distance"] is None else f", distributions {row['distance']:.3f} apart"
    return f"{row['measure']} ({row['group']}): {_number(row['before'])} -> {_number(row['after'])}{apart}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.5g}"
