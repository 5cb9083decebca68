"""A shard at a glance: one view of each object."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image

COLUMNS, MOST = 12, 144


def overview(archive: Path, side: int = 96) -> Image.Image:
    """The first view of each sample of a shard, on white, in the shard's order; at most `MOST` of them."""
    tiles: list[Image.Image] = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if len(tiles) == MOST:
                break
            if member.name.endswith(".00.png") and (file := tar.extractfile(member)):
                tiles.append(Image.open(io.BytesIO(file.read())).convert("RGBA").resize((side, side)))
    rows = max(1, -(-len(tiles) // COLUMNS))
    sheet = Image.new("RGB", (min(COLUMNS, max(1, len(tiles))) * side, rows * side), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % COLUMNS * side, place // COLUMNS * side), tile)
    return sheet
