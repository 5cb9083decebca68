"""Muon for matrices and AdamW for the rest, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Matrices (two axes) move by torch's Muon, everything else by AdamW; biases, norms and tables do not decay.

    Lightning's automatic optimisation takes a single optimiser, and its step count is the number of optimiser steps,
    so the two share one list of groups and one state.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        muon: float,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        parameters = list(parameters)
        matrices = [p for p in parameters if p.ndim == 2]
        kernels = [p for p in parameters if p.ndim > 2]
        plain = [p for p in parameters if p.ndim < 2]
        self._muon = torch.optim.Muon(matrices, lr=muon, weight_decay=weight_decay)
        groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        self._muon.param_groups, self._adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        self._muon.state = self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss
