"""What of a collection may be used at all: one object an id, under a licence that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch

from stages.objects.collections.item import Item


def licence_allowed(licence: str, patterns: Sequence[str]) -> bool:
    """Whether it matches one of the patterns, without regard to case; all do where there is none."""
    return not patterns or any(fnmatch(licence.lower(), pattern.lower()) for pattern in patterns)


def screened(items: Iterable[Item], licences: Sequence[str] = ()) -> Iterator[Item]:
    """The items, those with a repeated id or a licence outside of `licences` (patterns; none: all) given a reason.

    A repeated id is made another, so that every item keeps a row.
    """
    seen: dict[str, str] = {}
    for item in items:
        if item.id in seen:
            count = sum(id_.startswith(f"{item.id}-repeated") for id_ in seen)
            first, item = seen[item.id], replace(item, id=f"{item.id}-repeated{count + 1}")
            item = replace(item, reason=item.reason or f"repeated id: {first} has it")
        seen[item.id] = item.file
        if not item.reason and not licence_allowed(item.licence, licences):
            item = replace(item, reason=f"licence not allowed: {item.licence}")
        yield item
