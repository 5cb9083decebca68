"""One seed per sample: worker count, shard order and restarts change nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def sample_seed(root: int, *names: object) -> int:
    """A 63-bit seed from the root seed and what names the sample, e.g. `sample_seed(seed, "p0007")`."""
    text = "/".join(str(name) for name in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(root: int, *names: object) -> np.random.Generator:
    return np.random.default_rng(sample_seed(root, *names))


def torch_generator(root: int, *names: object) -> torch.Generator:
    return torch.Generator().manual_seed(sample_seed(root, *names))
