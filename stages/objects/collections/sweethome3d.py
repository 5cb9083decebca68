"""Furniture libraries of Sweet Home 3D: zips of OBJ files with a catalogue (`.sh3f`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages.objects.collections.archive import ArchiveError, unpacked
from stages.objects.collections.item import UNKNOWN, Item, captioned, plain_id

CATALOGUE = "PluginFurnitureCatalog.properties"
LARGEST_CATALOGUE = 100_000_000
LICENCES = (  # by the address that the library's LICENSE.TXT names; the longer one first
    ("creativecommons.org/choose/zero", "CC0-1.0"),
    ("creativecommons.org/publicdomain/zero", "CC0-1.0"),
    ("creativecommons.org/licenses/by/3.0/us", "CC-BY-3.0-US"),
    ("creativecommons.org/licenses/by/3.0", "CC-BY-3.0"),
    ("creativecommons.org/licenses/by/4.0", "CC-BY-4.0"),
    ("creativecommons.org/licenses/by-sa/3.0", "CC-BY-SA-3.0"),
)


@dataclass(frozen=True)
class Library:
    """One `.sh3f` file; `name` is what people call it."""

    path: Path
    name: str

    def items(self, scratch: Path) -> Iterator[Item]:
        try:
            folder = unpacked(self.path, scratch)
            if not (folder / CATALOGUE).is_file():
                raise ArchiveError(f"unreadable: holds no {CATALOGUE}")
            if (size := (folder / CATALOGUE).stat().st_size) > LARGEST_CATALOGUE:
                raise ArchiveError(f"absurd counts: a catalogue of {size} bytes")
        except ArchiveError as error:
            yield Item(plain_id(self.path.stem, self.name), self.name, None, self.path.stem, reason=str(error))
            return
        library, entries = read_catalogue((folder / CATALOGUE).read_bytes())
        source = f"Sweet Home 3D library {library.get('name', self.path.stem)} {library.get('version', '')}".strip()
        licence = _licence(folder, library.get("license", UNKNOWN))
        for entry in entries:
            model = entry.get("model", "")
            member = PurePosixPath(model.lstrip("/"))
            title = entry.get("name", member.stem)
            # the id that the maker gave stays when the library is packed anew under another name
            id_ = plain_id(entry.get("id") or f"{self.path.stem}-{member.stem}")
            file = f"{self.name}/{member}"
            facts: dict[str, Any] = {
                "caption": captioned(title),
                "licence": licence,
                "creator": entry.get("creator", UNKNOWN),
                "category": entry.get("category", UNKNOWN),
                "source": source,
            }
            if ".." in member.parts or "\\" in model or ":" in model:
                yield Item(id_, file, None, **facts, reason=f"refused: {model!r} leaves the archive's folder")
            elif not _is_file(folder / member):
                yield Item(id_, file, None, **facts, reason=f"unreadable: {model[:100]!r} is not in the archive")
            else:
                yield Item(id_, file, folder / member, **facts, rotation=_rotation(entry.get("modelRotation")))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no name that a file can have
        return False


def read_catalogue(data: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What a catalogue says of the library, and of each piece in turn: Java properties, `key#number=value`."""
    library: dict[str, str] = {}
    pieces: dict[int, dict[str, str]] = {}
    text = re.sub(r"\\\r?\n[ \t]*", "", data.decode("latin-1"))
    for line in text.splitlines():
        if found := re.match(r"\s*(\w+)(?:#(\d{1,9}))?\s*[=:]\s*(.*)$", line):
            key, number, value = found.groups()
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), value)
            value = re.sub(r"\\(.)", r"\1", value).strip()
            (pieces.setdefault(int(number), {}) if number else library)[key] = value
    return library, [pieces[number] for number in sorted(pieces)]


def _licence(folder: Path, said: str) -> str:
    text = ""
    if (file := folder / "LICENSE.TXT").is_file():
        with file.open(encoding="latin-1") as opened:
            text = opened.read(100_000)
    return next((name for address, name in LICENCES if address in text), said)


def _rotation(text: str | None) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(number) for number in (text or "").split())
    except ValueError:
        return None
    return numbers if len(numbers) == 9 and all(abs(number) < 1e3 for number in numbers) else None
