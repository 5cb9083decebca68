"""A pool as a row of views: those that were turned away framed in red, with what was counted below."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from stages.candidates.pool import Pool
from stages.quality.clips import Broken, read_clips
from stages.quality.manifest import REJECTED

SIDE, BELOW = 64, 24
"""Pixels a side of a view, and of the two lines of numbers below it: matches with front and back, support."""
RED = (200, 0, 0)


def row(pool: Pool, views: pl.DataFrame) -> Image.Image:
    """`views` are the pool's rows of the table of views, in order."""
    strip = Image.new("RGB", (SIDE * len(views), SIDE + BELOW), "white")
    draw = ImageDraw.Draw(strip)
    pixels = (pool.views.movedim(1, -1).numpy() * 255 + 0.5).astype(np.uint8)
    for place, of in enumerate(views.sort("view").to_dicts()):
        left = place * SIDE
        strip.paste(Image.fromarray(pixels[place]).resize((SIDE, SIDE)), (left, 0))
        counts = [of["matches_front"], *([] if of["matches_back"] is None else [of["matches_back"]])]
        colour = RED if of["verdict"] == REJECTED else (0, 0, 0)
        draw.text((left + 3, SIDE), " / ".join(map(str, counts)), fill=colour)
        draw.text((left + 3, SIDE + 11), f"{of['support']:.2f}", fill=colour)
        if of["verdict"] == REJECTED:
            draw.rectangle((left, 0, left + SIDE - 1, SIDE - 1), outline=RED, width=3)
    return strip


def sheet(candidates: Path, views: pl.DataFrame, pools: int = 8) -> Image.Image:
    """The first pools of a shard (`candidates.tar`) that have rows in `views`, one below the other."""
    parts = views.partition_by("pool", as_dict=True)
    samples = (sample for sample in read_clips(candidates) if not isinstance(sample, Broken))
    rows = [row(Pool.of(s), parts[s.id,]) for s in islice((s for s in samples if (s.id,) in parts), pools)]
    whole = Image.new("RGB", (max((r.width for r in rows), default=SIDE), max(1, len(rows)) * (SIDE + BELOW)), "white")
    for place, strip in enumerate(rows):
        whole.paste(strip, (0, place * strip.height))
    return whole
