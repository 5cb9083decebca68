"""Whom a model owes: the makers of what it learned from, as licences that ask for credit want it told."""

from __future__ import annotations

from pathlib import Path

from orchestration import paths, pipeline
from orchestration.lineage.current import Current
from orchestration.lineage.licences import asks_for_credit
from orchestration.lineage.record import OBJECT, record
from stages.objects.splits import TRAIN


def credits_of(model: Path) -> list[str]:
    """A line for each licence that asks for credit: `CC-BY-3.0: 138 objects by A, B`. None without a row."""
    if not model.is_relative_to(paths.data()):
        return []
    current = Current(pipeline.sources_only())
    newest = current.everything.get(model.relative_to(paths.data()).as_posix())
    if newest is None:
        return []
    owed: dict[str, dict[str, int]] = {}
    for each in record(current, current.rows_of_ids([newest.row])[0]).inputs:
        if each.kind == OBJECT and each.role == TRAIN and asks_for_credit(each.licence):
            makers = owed.setdefault(each.licence or "no licence", {})
            makers[each.creator or "nobody named"] = makers.get(each.creator or "nobody named", 0) + 1
    return [
        f"{licence}: {sum(makers.values())} objects by {', '.join(sorted(makers, key=str.lower))}"
        for licence, makers in sorted(owed.items())
    ]
