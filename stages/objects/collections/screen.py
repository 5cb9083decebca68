"""What of a collection may be used at all: one object an id, under a licence that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch

from stages.objects.collections.item import Item
from stages.text import spelled_out, unfit

TOLD = ("file", "caption", "licence", "creator", "category", "source")
"""What a collection says of an item in words of its own."""


def licence_allowed(licence: str, patterns: Sequence[str]) -> bool:
    """Whether it matches one of the patterns, without regard to case; all do where there is none."""
    return not patterns or any(fnmatch(licence.lower(), pattern.lower()) for pattern in patterns)


def screened(items: Iterable[Item], licences: Sequence[str] = ()) -> Iterator[Item]:
    """The items, those with a repeated id, a licence outside of `licences` (patterns; none: all) or words that are no
    line of text (see `unfit`) given a reason; such words are spelled out.

    A repeated id is made another, so that every item keeps a row.
    """
    seen: dict[str, str] = {}
    for item in items:
        for name in TOLD:
            if why := unfit(getattr(item, name)):
                told = f"{why} in its {name}"
                item = replace(item, **{name: spelled_out(getattr(item, name))[:200]}, reason=item.reason or told)
        if item.id in seen:
            count = sum(id_.startswith(f"{item.id}-repeated") for id_ in seen)
            first, item = seen[item.id], replace(item, id=f"{item.id}-repeated{count + 1}")
            item = replace(item, reason=item.reason or f"repeated id: {first} has it")
        seen[item.id] = item.file
        if not item.reason and not licence_allowed(item.licence, licences):
            item = replace(item, reason=f"licence not allowed: {item.licence}")
        yield item
