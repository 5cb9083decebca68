"""A few coloured objects made of boxes, by makers of every split: enough to render, quick to make."""

from __future__ import annotations

import hashlib
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import trimesh

from stages.objects.splits import HELD_OUT, TRAIN, VALIDATION, split_of
from stages.seeds import numpy_generator


def maker(split: str, number: int) -> str:
    """The number-th name that falls into a split."""
    names = (name for k in count() if split_of(name := f"maker {k}") == split)
    return next(name for k, name in enumerate(names) if k == number)


def write_blocks(folder: Path, *, train: int = 8, validation: int = 2, held_out: int = 1) -> pl.DataFrame:
    """Write objects below `folder` and return their table, each object by a maker of its own."""
    (folder / "meshes").mkdir(parents=True, exist_ok=True)
    rows = []
    for split, amount in ((TRAIN, train), (VALIDATION, validation), (HELD_OUT, held_out)):
        for number in range(amount):
            name = f"{split.replace('-', '')}{number}"
            file = f"meshes/{name}.glb"
            data = _block(name).export(file_type="glb")
            (folder / file).write_bytes(data)
            rows.append(
                {
                    "id": name,
                    "shard": "000",
                    "caption": f"a block {number}",
                    "category": "Blocks",
                    "licence": "CC0-1.0",
                    "creator": maker(split, number),
                    "split": split,
                    "file": file,
                    "md5": hashlib.md5(data).hexdigest(),
                    "faces": 24,
                    "source": "made for tests",
                }
            )
    return pl.DataFrame(rows)


def _block(name: str) -> trimesh.Trimesh:
    """A seat and a back of it: every side looks different."""
    rng = numpy_generator(0, name)
    width, depth, height = rng.uniform(0.5, 1.0, 3)
    seat = trimesh.creation.box((width, 0.3 * height, depth))
    back = trimesh.creation.box((width, height, 0.25 * depth))
    back.apply_translation((0, 0.65 * height, -0.375 * depth))
    part = trimesh.util.concatenate([seat, back])
    colours = np.repeat(rng.integers(30, 220, (12, 3)), 2, axis=0)  # one colour a side
    part.visual.face_colors = np.concatenate((colours, np.full((24, 1), 255)), 1).astype(np.uint8)
    return part
