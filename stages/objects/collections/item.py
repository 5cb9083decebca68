"""One object of a collection, wherever it came from, and what every collection offers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stages.objects.splits import UNKNOWN

LONGEST_ID = 60
"""Characters; members of a tar have names of at most 100."""


@dataclass(frozen=True)
class Item:
    """An object as its collection describes it. `path` is None, and `reason` tells why, where there is no file to load.

    `file` names it to people and does not change from run to run: a path in the folder, `library.sh3f/member.obj`.
    """

    id: str
    file: str
    path: Path | None
    caption: str
    licence: str = UNKNOWN
    creator: str = UNKNOWN
    category: str = UNKNOWN
    source: str = ""
    rotation: tuple[float, ...] | None = None
    """nine numbers, row by row, that turn the file's axes to y up"""
    reason: str | None = None
    """`reason: error`"""


class Collection(Protocol):
    """A place that objects come from."""

    def items(self, scratch: Path) -> Iterator[Item]:
        """Every object, in an order that does not change; archives are unpacked to `scratch`, which must outlive them.

        What cannot be offered is an item with a reason. Raises InputError when the collection itself is unusable.
        """
        ...


def plain_id(name: str, unique: str = "") -> str:
    """Letters, digits, `-` and `_` of a name, and a hash of `unique` that sets apart names with the same letters."""
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", ascii_).strip("-")[:LONGEST_ID] or "object"
    return f"{plain}-{hashlib.sha256(unique.encode()).hexdigest()[:6]}" if unique else plain


def captioned(name: str) -> str:
    """A short caption from a catalogue's name: `Oak chair` -> `an oak chair`."""
    first, *rest = name.split() or ["object"]
    words = " ".join([first.lower(), *rest])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def spelled(stem: str) -> str:
    """The words of a file's name: `Oak_chair-2` -> `Oak chair 2`."""
    return re.sub(r"[_\-.]+", " ", stem)


def readable(licence: str | None) -> str:
    """One spelling for each licence: SPDX identifiers where the words are known."""
    text = " ".join((licence or "").split())
    return SPELLINGS.get(text.lower(), text) or UNKNOWN


SPELLINGS = {
    "cc0": "CC0-1.0",
    "cc0 1.0": "CC0-1.0",
    "cc-0": "CC0-1.0",
    "by": "CC-BY-4.0",
    "cc-by": "CC-BY-4.0",
    "by-sa": "CC-BY-SA-4.0",
    "cc-by-sa": "CC-BY-SA-4.0",
    "by-nc": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA-4.0",
    "by-nd": "CC-BY-ND-4.0",
    "by-nc-nd": "CC-BY-NC-ND-4.0",
}
"""Sketchfab's short words, which Objaverse uses, stand for version 4.0."""
