"""A collection by the name that a person gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.errors import InputError
from stages.objects.collections.folder import Folder
from stages.objects.collections.item import UNKNOWN, Collection
from stages.objects.collections.objaverse import Objaverse
from stages.objects.collections.sweethome3d import Library

OBJAVERSE = "objaverse:"


def open_collection(
    name: str,
    *,
    state: Path,
    table: Path | None = None,
    licence: str = UNKNOWN,
    licences: Sequence[str] = (),
    one_of_many: bool = False,
) -> Collection:
    """`FOLDER`, `LIBRARY.sh3f`, `objaverse:COUNT` or `objaverse:FILE` with a uid on each line.

    `table` and `licence` describe the files of a folder; `state` is a folder for what a collection has to remember.
    Of `one_of_many` the folder's name is part of what its files are called.
    Raises InputError for a name that is none of these.
    """
    if name.startswith(OBJAVERSE):
        which = name.removeprefix(OBJAVERSE)
        notes = state / "objaverse.jsonl"
        if which.isdigit():
            return Objaverse(notes, count=int(which), licences=licences)
        if not Path(which).is_file():
            raise InputError(f"{name}: {which!r} is neither a number of objects nor a file of uids")
        return Objaverse(notes, uids=Path(which).read_text().split(), licences=licences)
    path = Path(name)
    if path.suffix.lower() == ".sh3f" and path.is_file():
        return Library(path, path.name)
    if not path.is_dir():
        raise InputError(f"{name} is no folder, .sh3f library or {OBJAVERSE}COUNT; name what holds meshes")
    return Folder(path, table, licence, path.resolve().name if one_of_many else "")
