"""Less memory for more arithmetic, and what to change when there is not enough of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from stages.config import TrainingConfig
from stages.errors import InputError

_REFUSALS = (
    "can't allocate memory",
    "DefaultCPUAllocator",
    "Cannot allocate memory",
    "CUDA error: out of memory",  # where the device is full of others' memory torch has another type for it
    "STATUS_ALLOC_FAILED",
)


def checkpoint_gradients(model: nn.Module) -> None:
    """Let every part that can forget its activations and compute them again do so: diffusers, transformers, LRM.

    Raises InputError when no part can.
    """
    found = 0
    for part in model.modules():
        # diffusers' classes all have the method, and say whether it works
        can = getattr(part, "_supports_gradient_checkpointing", True)
        switch: Any = getattr(part, "enable_gradient_checkpointing", None)
        switch = switch or getattr(part, "gradient_checkpointing_enable", None)
        if can and callable(switch):
            switch()
            found += 1
    if not found:
        raise InputError(
            f"gradient_checkpointing is true, but no part of {type(model).__name__} can compute its activations "
            "again; set training.gradient_checkpointing to false"
        )


@contextmanager
def memory_told(config: TrainingConfig) -> Iterator[None]:
    """Out of memory becomes an InputError that names the settings which decide about it, and their values."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        refused = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not refused and not any(words in str(error) for words in _REFUSALS):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        changes = [f"raise training.accumulate (now {config.accumulate}: {config.part} samples at a time)"]
        if not config.gradient_checkpointing:
            changes.append("set training.gradient_checkpointing to true (now false)")
        changes.append(f"lower training.batch (now {config.batch})")
        raise InputError(f"out of memory in training: {'; '.join(changes)}. {first[:200]}") from error
