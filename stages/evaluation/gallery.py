"""What the first model of an evaluation makes of a case, side by side, and its mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from stages.errors import InputError
from stages.evaluation.cases import Case
from stages.evaluation.subjects import Made

AROUND = 4
"""Views of each kind, evenly around."""
SIDE = 96
"""Pixels a side of a view in the picture, at least."""
_GAP = 6


def show(case: Case, made: Made | str, output: Path, stem: str) -> dict[str, Any]:
    """Write gallery/<stem>.png (input | true views | rendered views | depth) and, where there is a mesh,
    gallery/<stem>.glb below `output`; return the row of gallery.json. What was not made is left white."""
    some = [round(k * len(case.views) / AROUND) for k in range(min(AROUND, len(case.views)))]
    picture = F.interpolate(case.picture[None], case.size, mode="bilinear", antialias=True).clamp(0, 1)
    blocks = [picture]
    if case.truth is not None:
        blocks.append(case.truth.rgb[some])
    white = torch.ones(len(some), 3, case.size, case.size)
    mesh = None
    if isinstance(made, str):
        blocks += [white, white]
    else:
        blocks.append(made.views.rgb[some])
        blocks.append(white if made.depth is None else _depth(made, some))
        if made.write is not None:
            mesh = f"gallery/{stem}.glb"
            try:
                made.write(output / mesh)
            except InputError:  # no surface: a row of the table says so
                mesh = None
    _save(output / "gallery" / f"{stem}.png", blocks)
    told = {"object": case.object, "caption": case.caption, "creator": case.creator, "licence": case.licence}
    return {"id": case.id, **told, "picture": f"gallery/{stem}.png", "mesh": mesh}


def _depth(made: Made, some: list[int]) -> Float[Tensor, "n 3 s s"]:
    """Near is dark; white where nothing is."""
    assert made.depth is not None
    depth = made.depth[some]
    there = depth > 0 if made.views.alpha is None else made.views.alpha[some] > 0.5
    if not there.any():
        return torch.ones(len(depth), 3, *depth.shape[1:])
    near, far = depth[there].min(), depth[there].max()
    grey = 0.1 + 0.75 * (depth - near) / (far - near).clamp(min=1e-6)
    return torch.where(there, grey, 1.0)[:, None].expand(-1, 3, -1, -1)


def _save(path: Path, blocks: list[Float[Tensor, "n 3 s s"]]) -> None:
    side = blocks[0].shape[-1]
    gap = np.ones((side, _GAP, 3), dtype=np.float32)
    parts: list[np.ndarray] = []
    for block in blocks:
        parts += [gap, *block.clamp(0, 1).movedim(1, -1).numpy()]
    sheet = (np.concatenate(parts[1:], 1) * 255 + 0.5).astype(np.uint8)
    zoom = -(-SIDE // side)
    picture = Image.fromarray(sheet)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)
