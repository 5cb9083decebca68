"""Contact sheets: clips as an eye judges them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def save_sheet(path: Path, *columns: Float[Tensor, "n f 3 s s"], zoom: int = 2, gap: int = 4) -> None:
    """One row a clip, its frames side by side; `columns` (truth, generated, ...) beside each other."""
    blocks = []
    for column in columns:
        rows = [np.concatenate(list(clip), 2) for clip in column.clamp(0, 1).numpy()]
        blocks += [np.concatenate(rows, 1), np.ones((3, len(rows) * column.shape[-2], gap), np.float32)]
    sheet = (np.concatenate(blocks[:-1], 2).transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(sheet)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)
