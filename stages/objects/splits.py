"""Train, validation or held-out: one rule for every collection, decided by who made the object."""

from __future__ import annotations

import hashlib

UNKNOWN = "unknown"
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


def split_of_object(creator: str, id_: str) -> str:
    """The split of an object; one whose maker nobody named is taken for the only work of its maker."""
    return split_of(f"unknown maker of {id_}" if creator == UNKNOWN else creator)
