"""Under which licences a model's inputs stand, and which a policy refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

UNKNOWN = "unknown"
_SPDX = re.compile(
    r"\b(?:CC0-1\.0|CC-BY(?:-NC)?(?:-(?:ND|SA))?-[1-4]\.0|PDDL-1\.0|Apache-2\.0|MIT|BSD-[23]-Clause|MPL-2\.0|"
    r"[AL]?GPL-[23]\.[01](?:-only|-or-later)?|ODC-By-1\.0|ODbL-1\.0|(?:creativeml-)?openrail(?:\+\+)?-?m?|"
    r"LicenseRef-[A-Za-z0-9.-]*[A-Za-z0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Licensed:
    """One input of a model: an object, a prompt, a judged clip, or weights that came from elsewhere.

    `role` is "train", "validation" or "held-out" for objects, else "train". `creator` is whoever is named.
    """

    kind: str
    id: str
    licence: str
    creator: str
    role: str = "train"


def named_licence(text: str) -> str:
    """The SPDX licences that a sentence names, joined by AND; unknown if it names none."""
    found = dict.fromkeys(match[0] for match in _SPDX.finditer(text))
    return " AND ".join(found) or UNKNOWN


def spdx(licence: str) -> str:
    """As SPDX writes it: apache-2.0 of the hub is Apache-2.0, what SPDX does not know gets the prefix for that."""
    if licence.startswith("LicenseRef-"):
        return licence
    if (named := named_licence(licence)) == UNKNOWN:
        return f"LicenseRef-{'-'.join(licence.split())}"
    if "openrail" in named.lower():
        return named.lower()
    written = named.upper()
    for mixed in ("Apache", "-Clause", "-only", "-or-later", "ODC-By", "ODbL"):
        written = written.replace(mixed.upper(), mixed)
    return written


def asks_for_credit(licence: str) -> bool:
    """Whether the maker has to be named: everywhere but in the public domain, and where no licence is known."""
    return not licence.lower().startswith(("cc0", "pddl"))


def summary(inputs: Iterable[Licensed]) -> dict[str, dict[str, int]]:
    """Licence -> kind -> how many, most frequent licence first."""
    counts: dict[str, dict[str, int]] = {}
    for each in inputs:
        kinds = counts.setdefault(each.licence or UNKNOWN, {})
        kinds[each.kind] = kinds.get(each.kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def refused(inputs: Iterable[Licensed], deny: Iterable[str]) -> Mapping[str, list[Licensed]]:
    """Pattern of `deny` -> the inputs whose licence it matches, without regard to case."""
    found: dict[str, list[Licensed]] = {}
    for each in inputs:
        for pattern in deny:
            if fnmatchcase((each.licence or UNKNOWN).lower(), pattern.lower()):
                found.setdefault(pattern, []).append(each)
                break
    return found
