"""Train, validation or held-out: one rule for every collection, decided by who made the object."""

from __future__ import annotations

import hashlib

TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held-out"


def split_of(creator: str) -> str:
    """The split of everything by this creator.

    Objects of one maker share style, parts and textures, so a split by object would leak. The rule needs no
    list: new objects by known makers join their makers' split.
    """
    fraction = int(hashlib.sha256(creator.encode()).hexdigest()[:8], 16) / 2**32
    if fraction < 0.6:
        return TRAIN
    return VALIDATION if fraction < 0.7 else HELD_OUT
