"""How latents are mixed with noise and what a network says of the mixture, at levels from 0 (clean) to 1 (noise)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

FLOW, VELOCITY, NOISE, CLEAN = "flow_prediction", "v_prediction", "epsilon", "sample"
"""What diffusers calls the things that a network may say."""
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


@dataclass(frozen=True)
class Noising:
    """x = a x0 + b e, where a = 1 - level and b = level on the straight path of flow matching, and otherwise a^2 is the
    `signal` of the training step nearest to the level, and b^2 the rest.

    The network says e - x0 (FLOW), a e - b x0 (VELOCITY), e (NOISE) or x0 (CLEAN).
    """

    kind: str
    steps: int
    signal: Float[Tensor, " steps"] | None = None

    @staticmethod
    def of(scheduler: Mapping[str, Any]) -> Noising:
        """That of a scheduler's config. Raises ValueError for a network that says something else."""
        kind = scheduler.get("prediction_type", NOISE)
        if kind not in (FLOW, VELOCITY, NOISE):
            raise ValueError(
                f"the pipeline's scheduler has prediction_type {kind!r}; {FLOW}, {VELOCITY} and {NOISE} are known"
            )
        steps = int(scheduler["num_train_timesteps"])
        if kind == FLOW:
            return Noising(kind, steps)
        betas = {name: scheduler[name] for name in BETAS if scheduler.get(name) is not None}
        return Noising(kind, steps, DDIMScheduler(**betas).alphas_cumprod)

    def time(self, level: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The level as the network is told it."""
        return self.steps * level if self.signal is None else self._step(level).to(level)

    def mixed(
        self, clean: Float[Tensor, "n v c h w"], noise: Float[Tensor, "n v c h w"], level: Float[Tensor, " n"]
    ) -> Float[Tensor, "n v c h w"]:
        a, b = self._shares(level, clean)
        return a * clean + b * noise

    def wanted(
        self, clean: Float[Tensor, "n v c h w"], noise: Float[Tensor, "n v c h w"], level: Float[Tensor, " n"]
    ) -> Float[Tensor, "n v c h w"]:
        """What the network should say."""
        a, b = self._shares(level, clean)
        said = {FLOW: noise - clean, VELOCITY: a * noise - b * clean, NOISE: noise, CLEAN: clean}
        return said[self.kind]

    def parts(
        self, noisy: Float[Tensor, "n v c h w"], said: Float[Tensor, "n v c h w"], level: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n v c h w"], Float[Tensor, "n v c h w"]]:
        """(clean latents, noise) that make up `noisy`, if what the network said is true; `level` is above 0."""
        a, b = self._shares(level, noisy)
        if self.kind == FLOW:
            return noisy - b * said, noisy + a * said
        if self.kind == VELOCITY:
            return a * noisy - b * said, b * noisy + a * said
        if self.kind == NOISE:
            return (noisy - b * said) / a, said
        return said, (noisy - a * said) / b

    def _shares(self, level: Float[Tensor, " n"], like: Float[Tensor, "n v c h w"]) -> tuple[Tensor, Tensor]:
        level = level.view(-1, *[1] * (like.ndim - 1))
        if self.signal is None:
            return 1 - level, level
        signal = torch.where(level > 0, self.signal.to(level)[self._step(level)], 1.0)
        return signal.sqrt(), (1 - signal).sqrt()

    def _step(self, level: Tensor) -> Tensor:
        return (level * self.steps - 1).round().long().clamp(0, self.steps - 1)
