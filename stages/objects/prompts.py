"""The prompts table of the sample data: training objects to imagine anew."""

from __future__ import annotations

import hashlib

import polars as pl

from stages.objects.sources import COLUMNS, PROMPTS
from stages.objects.splits import TRAIN

DEFORMED = ", deformed and recoloured"
"""How the text of a prompt ends whose first frame is a render."""


def make_prompts(objects: pl.DataFrame, count: int, shard_size: int) -> pl.DataFrame:
    """`count` prompts over the training objects of `objects`, in turn, `shard_size` a shard.

    The first frame is a render of the named object, deformed and recoloured by `seed`, unless the preset has it drawn
    from text; the text says so, and licence and creator are those of the object.
    """
    training = objects.filter(pl.col("split") == TRAIN).to_dicts()
    if not training:
        raise ValueError(f"none of {len(objects)} objects is in the {TRAIN!r} split; prompts need training objects")
    ids = [f"p{number:04d}" for number in range(count)]
    shards = {i: f"p{number // shard_size:03d}" for number, i in enumerate(ids)}
    rows = [
        {
            "id": i,
            "shard": shards[i],
            "text": f"{parent['caption']}{DEFORMED}",
            "object": parent["id"],
            "file": parent["file"],
            "md5": parent["md5"],
            "seed": int(hashlib.sha256(f"{i}/{parent['md5']}".encode()).hexdigest()[:8], 16),
            "licence": parent["licence"],
            "creator": parent["creator"],
        }
        for number, i in enumerate(ids)
        for parent in [training[number % len(training)]]
    ]
    return pl.DataFrame(rows).select(COLUMNS[PROMPTS])
