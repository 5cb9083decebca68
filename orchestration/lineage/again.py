"""Making an artifact a second time, of what the ledger says it was made of, without touching what is there."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestration.errors import OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import Row
from orchestration.presets.schema import Preset
from orchestration.steps import Make, Report, Step
from orchestration.tasks import Done, again, name_of, perform
from orchestration.versions import config_hash
from orchestration.workspace import described

Makes = Callable[[str], Make]


def make_of(asset: str) -> Make:
    """The stage of an asset."""
    return importlib.import_module(f"orchestration.assets.{asset}").make


def made_again(current: Current, row: Row, code: str, report: Report, makes: Makes = make_of) -> Done:
    """Run the stage of `row` as a run would, inputs by md5, and hash what it writes; nothing is kept.

    Raises OrbitforgeError when the preset of then cannot be understood now or an input is not in the cache, and what
    the stage raises.
    """
    task = again(current, row, makes(row.asset), preset_of(current, row), code)
    try:
        return perform(task, report, keep=described)
    finally:
        task.scratch.remove()


def preset_of(current: Current, row: Row) -> Preset:
    """The preset with the sections that `row` was made under; the others, which its step does not read, as they are."""
    step = current.pipeline.find(row.asset)
    assert isinstance(step, Step)
    values: dict[str, Any] = current.pipeline.preset.model_dump(mode="json") | {"name": row.preset}
    for section, value in row.config.items():
        *parents, last = section.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    try:
        preset = Preset.model_validate(values)
    except ValueError as error:
        words = " ".join(str(error).split())
        raise OrbitforgeError(
            f"the config of {name_of(row.asset, row.shard)} is not understood any more: {words}; try --exact"
        ) from None
    if config_hash(preset, step.config) != row.config_hash:
        raise OrbitforgeError(
            f"{name_of(row.asset, row.shard)} was made under config {', '.join(row.config)}, its step reads "
            f"{', '.join(step.config) or 'none'} now; try --exact"
        )
    return preset


def differences(before: Row, after: Done) -> dict[str, tuple[str | None, str | None]]:
    """Path -> (md5 then, md5 now), for the files that differ; None for one that is not there."""
    then: Mapping[str, str] = {file.path: file.md5 for file in before.files}
    now = {file.path: file.md5 for file in after.files}
    return {
        path: pair for path in sorted(then | now) if (pair := (then.get(path), now.get(path))) and pair[0] != pair[1]
    }


def ancestors(current: Current, row: Row) -> Iterator[Row]:
    """Every row that `row` came from, then `row` itself: each after what it was made of."""
    seen: dict[str, Row] = {row.id: row}
    level = [row]
    while level:
        above = {input_.row for each in level for input_ in each.inputs} - seen.keys() - {""}
        level = current.rows_of_ids(sorted(above))
        seen |= {each.id: each for each in level}
    yield from in_order(seen)


def in_order(rows: Mapping[str, Row]) -> Iterator[Row]:
    """Rows, each after those of them that it was made of."""
    done: set[str] = set()
    stack = list(rows.values())[::-1]
    while stack:
        row = stack[-1]
        waits = [rows[i.row] for i in row.inputs if i.row in rows and i.row not in done]
        if waits:
            stack += waits
            continue
        stack.pop()
        if row.id not in done:
            done.add(row.id)
            yield row
