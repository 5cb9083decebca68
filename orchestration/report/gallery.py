"""Held-out objects on the page: the picture that the evaluation drew, and the mesh to turn around."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from orchestration.report.figures import in_order, number, title_of, unit_of
from orchestration.report.mesh import packed, webp
from orchestration.report.tables import Evaluation
from stages.errors import InputError

MOST = 12
"""Objects on the page; of more, some are taken at equal distances."""
FACES, FACES_OF_ONE = 20_000, 3_000
"""Of all its meshes together, and of any."""
WIDTH = 1600
"""Pixels of a picture at most."""
QUALITY = 80


@dataclass(frozen=True)
class Item:
    """One object. `picture` is a data URI and `mesh` what the viewer draws; `lacking` says why one is absent."""

    id: str
    caption: str
    creator: str
    licence: str
    figures: tuple[str, ...]
    picture: str | None
    width: int
    height: int
    mesh: dict[str, Any] | None
    lacking: tuple[str, ...]


def items(evaluation: Evaluation) -> list[Item]:
    """What the page shows of the gallery, in its order."""
    entries = evaluation.gallery
    shown = [entries[k * len(entries) // MOST] for k in range(MOST)] if len(entries) > MOST else entries
    faces = min(FACES_OF_ONE, FACES // max(1, len(shown)))
    return [_item(evaluation, entry, faces) for entry in shown]


def _item(evaluation: Evaluation, entry: dict[str, Any], faces: int) -> Item:
    picture, size, mesh, lacking = None, (0, 0), None, []
    try:
        picture, size = _picture(_file(evaluation.folder, entry, "picture"))
    except InputError as error:
        lacking.append(str(error))
    try:
        mesh = packed(_file(evaluation.folder, entry, "mesh"), faces)
    except InputError as error:
        lacking.append(str(error))
    return Item(
        entry["id"],
        str(entry.get("caption") or entry.get("object") or entry["id"]),
        str(entry.get("creator") or ""),
        str(entry.get("licence") or "unknown"),
        tuple(_figures(evaluation, entry["id"])),
        picture,
        *size,
        mesh,
        tuple(lacking),
    )


def _file(folder: Path, entry: dict[str, Any], what: str) -> Path:
    """Raises InputError where there is none inside of the folder."""
    named = entry.get(what)
    if not isinstance(named, str):
        raise InputError(f"there is no {what}")
    path = (folder / named).resolve()
    if not (path.is_relative_to(folder.resolve()) and path.is_file()):
        raise InputError(f"the {what} {named} is missing")
    return path


def _picture(path: Path) -> tuple[str, tuple[int, int]]:
    try:
        with Image.open(path) as image:
            image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture {path.name} cannot be read: {' '.join(str(error).split())[:160]}") from None
    if image.width > WIDTH:
        image = image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))))
    return webp(image, QUALITY), image.size


def _figures(evaluation: Evaluation, id_: str) -> list[str]:
    """The shown model's figures of this orbit: `Foreground PSNR 13.2 dB`."""
    mine = (pl.col("model") == evaluation.shown) & (pl.col("id") == id_)
    rows = evaluation.values.filter(mine & pl.col("value").is_not_null())
    values = dict(rows.select("metric", "value").iter_rows())
    return [f"{title_of(name)} {number(values[name])} {unit_of(name)}".rstrip() for name in in_order(list(values))[:3]]
