"""An exponential moving average of the weights that train, for whole and for sharded parameters."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class MovingAverage(L.Callback):
    """Averages after every optimiser step, keeps the average in the resume state, leaves it in the model at the end.

    It forgets the first weights: the decay grows to its value over the first steps. Lightning's WeightAveraging copies
    the frozen weights as well and knows no sharded ones.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.count, self.left = decay, 0, False
        self.values: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        live = _learning(pl_module)
        kept, self.values = self.values, {name: p.detach().clone() for name, p in live.items()}
        for name, value in kept.items():
            self.values[name].copy_(like(value, live[name]))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if trainer.global_step == self.count:  # a part of a step
            return
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        live = [p.detach() for p in _learning(pl_module).values()]
        if decay:
            torch._foreach_lerp_(list(self.values.values()), live, 1 - decay)
        else:
            for value, now in zip(self.values.values(), live, strict=True):  # shards know no copy of lists
                value.copy_(now)
        self.count = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.leave(pl_module)

    @torch.no_grad()
    def leave(self, module: nn.Module) -> None:
        """Put the average into the model. A training that is resumed after its last step never ends for Lightning,
        which then does not train: it has to be asked for this."""
        for name, parameter in _learning(module).items():
            parameter.copy_(like(self.values[name], parameter))
        self.left = True

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "values": {name: whole(value).cpu() for name, value in self.values.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count, self.values = int(state_dict["count"]), dict(state_dict["values"])


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a shard (every rank must ask), or the tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A tensor, full or not, sharded and placed as `parameter` is."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor) and not isinstance(tensor, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def _learning(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
