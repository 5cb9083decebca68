"""Making a version again and holding it against the first, artifact by artifact."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestration.errors import OrbitforgeError
from orchestration.lineage.again import Makes, ancestors, differences, made_again, make_of, preset_of
from orchestration.lineage.current import Current
from orchestration.lineage.find import step_of
from orchestration.lineage.ledger import MADE, Row
from orchestration.steps import Report
from orchestration.tasks import name_of
from orchestration.versions import TOOLS, code_modules, environment

EQUAL, CLOSE, DIFFERENT, ADOPTED = "equal", "close", "different", "adopted"
TOLERANCE = 0.02
"""How far a metric may lie from the recorded one, relatively, where floating point differs between machines."""


@dataclass(frozen=True)
class Comparison:
    """One artifact made again. `files` and `metrics` hold (then, now) of what differs."""

    row: Row
    result: str
    words: str
    files: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return name_of(self.row.asset, self.row.shard)

    @property
    def holds(self) -> bool:
        return self.result != DIFFERENT

    def as_json(self) -> dict[str, Any]:
        row = {"asset": self.row.asset, "shard": self.row.shard, "row": self.row.id, "version": self.row.version}
        return row | {key: value for key, value in vars(self).items() if key != "row"}


def rows_to_make(current: Current, row: Row, *, everything: bool) -> list[Row]:
    """`row`, or all that were made on the way to it, each after what it was made of."""
    return [each for each in ancestors(current, row) if each.kind == MADE] if everything else [row]


def refuse(current: Current, rows: list[Row]) -> None:
    """Raise OrbitforgeError, naming the differences, unless code and environment are those of then."""
    told = {f"{name_of(row.asset, row.shard)}: {reason}": None for row in rows for reason in reasons(current, row)}
    if told:
        lines = list(told)
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise OrbitforgeError(
            f"cannot be made as it was: {'; '.join(lines[:5])}{more}; go back to that code and environment, or let "
            "--exact do it in a git worktree and an environment of its own"
        )


def reasons(current: Current, row: Row) -> Iterator[str]:
    """Why making `row` again would not be what was done then."""
    if row.service == ADOPTED:
        return
    step = step_of(current, row)
    now = code_modules(step.code)
    changed = sorted(
        name for name in now.keys() | row.code_modules.keys() if now.get(name) != row.code_modules.get(name)
    )
    if changed:
        shown = ", ".join(changed[:4]) + (f" and {len(changed) - 4} more" if len(changed) > 4 else "")
        yield f"code of {shown} changed"
    yield from other_environment(row)
    try:
        preset_of(current, row)
    except OrbitforgeError as error:
        yield str(error)


def other_environment(row: Row) -> Iterator[str]:
    """The libraries and settings that can change bytes and are not those of then."""
    here = environment()
    for name in sorted(row.environment.keys() | here.keys()):
        then, now = row.environment.get(name), here.get(name)
        if name not in TOOLS and then != now:
            yield f"{name} is {now or 'absent'}, was {then or 'absent'}"


def reproduce(
    current: Current,
    rows: list[Row],
    report: Callable[[Row, dict[str, Any]], None] = lambda row, event: None,
    makes: Makes = make_of,
) -> Iterator[Comparison]:
    """Make each row again, of the inputs that it names, and compare.

    What is equal all the way up is reproduced from the sources, since each step was given the bytes of then.
    """
    for row in rows:
        if row.service == ADOPTED:
            yield Comparison(row, ADOPTED, f"was not made here: {row.reference}")
            continue

        def tell(event: dict[str, Any], row: Row = row) -> None:
            report(row, event)

        yield _compared(current, row, tell, makes)


def _compared(current: Current, row: Row, report: Report, makes: Makes) -> Comparison:
    done = made_again(current, row, row.code, report, makes)
    files = differences(row, done)
    metrics = {
        name: (then, done.metrics.get(name, math.nan))
        for name, then in row.metrics.items()
        if then != done.metrics.get(name)
    }
    if not files:
        return Comparison(row, EQUAL, f"{len(row.files)} files, equal bytes", seconds=done.seconds)
    named = ", ".join(files)
    if same_machine(row):
        words = f"{named} differ on the machine that made them, with the same code and environment"
        return Comparison(row, DIFFERENT, words, files, metrics, done.seconds)
    machines = f"made on {row.host} ({row.environment.get('cpu', 'unknown CPU')}), again on {platform.node()}"
    close = bool(row.metrics) and all(_close(*pair) for pair in metrics.values())
    judged = f"metrics are within {TOLERANCE:.0%}" if close else "metrics are not"
    words = f"{named} differ, as floating point does between machines ({machines}); {judged}"
    return Comparison(row, CLOSE if close else DIFFERENT, words, files, metrics, done.seconds)


def same_machine(row: Row) -> bool:
    here = environment()["cpu"]
    return (row.host, row.environment.get("cpu", here)) == (platform.node(), here)


def _close(then: float, now: float) -> bool:
    return math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=1e-6)
