"""A folder of mesh files and libraries, with or without a table of captions and licences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.errors import InputError
from stages.objects.collections.archive import ArchiveError, unpacked
from stages.objects.collections.item import UNKNOWN, Item, captioned, plain_id, readable, spelled
from stages.objects.collections.sweethome3d import Library
from stages.tables import foreign_table

MESHES = (".glb", ".gltf", ".obj", ".ply", ".stl")
FOREIGN = (".3ds", ".abc", ".blend", ".c4d", ".dae", ".fbx", ".iges", ".igs", ".ma", ".max", ".mb", ".step", ".stp",
           ".usd", ".usda", ".usdc", ".usdz", ".wrl", ".x3d")  # fmt: skip
TABLES = ("objects.csv", "objects.parquet", "captions.csv", "captions.parquet")
OTHER_NAMES = {"license": "licence", "name": "caption", "title": "caption", "author": "creator", "path": "file"}


@dataclass(frozen=True)
class Folder:
    """Everything below `root` that is a mesh, a `.sh3f` library or a `.zip` of meshes.

    `table` (by default one of `TABLES` in the folder) has a column `file`, relative to the root, and any of id,
    caption, licence, creator, category, source. `licence` is that of files of which the table says nothing.
    """

    root: Path
    table: Path | None = None
    licence: str = UNKNOWN
    name: str = ""
    """goes before the files' names, and into their ids, where several folders come together"""

    def items(self, scratch: Path) -> Iterator[Item]:
        if not self.root.is_dir():
            raise InputError(f"{self.root} is no folder; name one that holds meshes ({', '.join(MESHES)})")
        known = self._table()
        found: set[str] = set()
        for path in _walk(self.root):
            found.add(inside := path.relative_to(self.root).as_posix())
            file = self._named(inside)
            if path.suffix.lower() == ".sh3f":
                yield from Library(path, file).items(scratch)
            elif path.suffix.lower() == ".zip":
                yield from self._zipped(path, file, scratch)
            else:
                yield _described(path, file, known.get(inside, {}), self.licence)
        for inside in sorted(known.keys() - found):
            item = _described(self.root / inside, self._named(inside), known[inside], self.licence)
            yield Item(
                item.id, item.file, None, item.caption, reason="unreadable: the table names it, the folder lacks it"
            )

    def _named(self, file: str) -> str:
        return f"{self.name}/{file}" if self.name else file

    def _zipped(self, path: Path, file: str, scratch: Path) -> Iterator[Item]:
        try:
            folder = unpacked(path, scratch)
        except ArchiveError as error:
            yield Item(plain_id(path.stem, file), file, None, captioned(spelled(path.stem)), reason=str(error))
            return
        for inner in _walk(folder):
            if inner.suffix.lower() in MESHES + FOREIGN:
                yield _described(inner, f"{file}/{inner.relative_to(folder).as_posix()}", {}, self.licence)

    def _table(self) -> dict[str, dict[str, Any]]:
        path = self.table or next((self.root / name for name in TABLES if (self.root / name).is_file()), None)
        if path is None:
            return {}
        table = foreign_table(path)
        for old, new in OTHER_NAMES.items():
            if old in table.columns and new not in table.columns:
                table = table.rename({old: new})
        if "file" not in table.columns:
            raise InputError(f"{path} has no column `file` with paths relative to {self.root}; it has {table.columns}")
        return {row["file"]: row for row in table.drop_nulls("file").to_dicts() if Path(row["file"]).name}


def _described(path: Path, file: str, row: Mapping[str, Any], licence: str) -> Item:
    told = {key: str(value) for key, value in row.items() if value is not None and str(value).strip()}
    foreign = path.suffix.lower() in FOREIGN
    return Item(
        id=plain_id(told["id"]) if "id" in told else plain_id(Path(file).with_suffix("").as_posix(), file),
        file=file,
        path=None if foreign else path,
        caption=told.get("caption", captioned(spelled(path.stem))),
        licence=readable(told.get("licence", licence)),
        creator=told.get("creator", UNKNOWN),
        category=told.get("category", UNKNOWN),
        source=told.get("source", ""),
        reason=f"unsupported: {path.suffix} files; convert it to .glb" if foreign else None,
    )


def _walk(root: Path) -> Iterator[Path]:
    """Files below `root` that may be objects, sorted; links to folders are not followed, nor hidden folders entered."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix.lower() in (*MESHES, *FOREIGN, ".sh3f", ".zip") and not name.startswith("."):
                yield path
