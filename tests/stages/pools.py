"""Pools of candidate views of made-up objects: boxes seen on rings, quick to render."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stages.candidates.pool import Pool
from stages.curation.rings import ring_pool
from stages.rendering.config import RenderingConfig
from stages.rendering.rings import RingsConfig, on_rings
from stages.rendering.views import render_shard
from stages.shards import read_shard
from tests.stages.blocks import write_blocks

RINGS = RingsConfig.model_validate({})


@cache
def block_pools() -> tuple[Pool, ...]:
    """True views of three objects, 4 + 16 of each, 32 px."""
    with TemporaryDirectory() as name:
        home = Path(name)
        objects = write_blocks(home, train=3, validation=0, held_out=0)
        config = on_rings(RINGS, RenderingConfig.model_validate({"size": 32, "supersampling": 2, "variants": 1}))
        (home / "out").mkdir()
        render_shard(objects, home, home / "out", config, seed=0, report=lambda _: None)
        return tuple(ring_pool(sample, RINGS) for sample in read_shard(home / "out" / "views.tar"))


def seeded(*names: object) -> np.random.Generator:
    from stages.seeds import numpy_generator

    return numpy_generator(0, *names)
