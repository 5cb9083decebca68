"""A batch in equal parts: its rows, and the rows of the random numbers that are drawn for it.

The gradient of a loss that is a mean over samples is then the mean of the parts' gradients, whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def rows_of(batch: Any, number: int, parts: int) -> Any:
    """Part `number` (from 0) of the tensors of a batch, which may stand in tuples, mappings and dataclasses.

    Numbers, texts and None are every part's. Raises ValueError for a tensor that cannot be cut, TypeError for what
    else a batch holds.
    """
    if parts == 1:
        return batch
    if isinstance(batch, Tensor):
        if batch.ndim == 0 or len(batch) % parts:
            raise ValueError(f"a tensor of shape {list(batch.shape)} cannot be cut into {parts} equal parts")
        return batch.chunk(parts)[number]
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{f.name: rows_of(getattr(batch, f.name), number, parts) for f in fields(batch)})
    if isinstance(batch, Mapping):
        return {name: rows_of(value, number, parts) for name, value in batch.items()}
    if isinstance(batch, tuple):
        cut = [rows_of(value, number, parts) for value in batch]
        return type(batch)(*cut) if hasattr(batch, "_fields") else tuple(cut)
    if batch is None or isinstance(batch, (bool, int, float, str)):
        return batch
    raise TypeError(f"a batch that holds {type(batch).__name__} cannot be cut into parts; set training.accumulate to 1")


class RowsOfNoise(TorchFunctionMode):
    """Within, what a part draws with a generator are its rows of what the whole batch would draw with it.

    Raises ValueError for draws whose first dimension is not the part's samples, and for other draws than those of
    `torch.rand` and `torch.randn`: their rows would not be the batch's.
    """

    def __init__(self, number: int, parts: int, samples: int) -> None:
        super().__init__()
        self.number, self.parts, self.samples = number, parts, samples

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(kwargs.get("generator"), torch.Generator):
            return func(*args, **kwargs)
        shape = tuple(args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
        if func not in (torch.rand, torch.randn) or shape[:1] != (self.samples,):
            raise ValueError(
                f"{getattr(func, '__name__', func)} of {list(shape)} is no row of noise for each of "
                f"{self.samples} samples; set training.accumulate to 1"
            )
        start = self.number * self.samples
        return func((self.parts * self.samples, *shape[1:]), **kwargs)[start : start + self.samples]
