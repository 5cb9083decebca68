"""One Lightning training loop for every model: averaged weights, a curve, and exact resume.

An interrupted and resumed training ends with the bytes of an uninterrupted one, because batch and noise of a step
are drawn from (seed, step) alone (facts measured with Lightning 2.6: a stored generator is exact at epoch ends only).
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from stages.config import TrainingConfig
from stages.optimisers import MuonAdamW
from stages.seeds import torch_generator

Batch = Any
Draw = Callable[[torch.Generator, int], Batch]  # (generator, step)
Loss = Callable[[Any, Batch, torch.Generator], Mapping[str, Tensor]]  # (model, batch, generator)
Report = Callable[[dict[str, Any]], None]


def fit(
    model: nn.Module,
    loss: Loss,
    draw: Draw,
    config: TrainingConfig,
    *,
    seed: int,
    scratch: Path,
    report: Report,
    loggers: list[Any] | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
) -> pl.DataFrame:
    """Train the parameters of `model` that require a gradient; `model` then holds the averaged weights.

    `draw(generator, step)` makes the batch of a step, `loss(model, batch, generator)` returns named scalars whose
    "loss" is minimised. `scratch` keeps the resume states; a restart with the same scratch continues there. `validate`
    measures the finished model. Returns the curve: (step, name, value).
    Raises FloatingPointError when the loss is not finite.
    """
    torch.set_num_threads(config.threads)
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    curve = _Curve(report, config.steps)
    keep = ModelCheckpoint(
        dirpath=scratch,
        filename="{step}",
        monitor="step",
        mode="max",
        save_top_k=2,
        every_n_train_steps=config.checkpoint_every,
    )
    average = [WeightAveraging(use_buffers=False, multi_avg_fn=moving_average(config.ema))] if config.ema else []
    trainer = L.Trainer(
        max_steps=config.steps,
        accelerator="auto",
        devices=config.devices,
        strategy=config.strategy,
        precision=config.precision,  # pyright: ignore[reportArgumentType]
        gradient_clip_val=config.clip,
        callbacks=[curve, keep, *average],
        logger=loggers or False,
        log_every_n_steps=curve.every,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=scratch,
    )
    module = _Training(model, loss, draw, config, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, ckpt_path=_newest_state(scratch), weights_only=True)
    rows = list(curve.rows)
    if validate is not None:
        model.eval()
        with torch.no_grad():
            rows += [(config.steps, name, float(value)) for name, value in validate(model).items()]
    return pl.DataFrame(rows, schema={"step": pl.Int64, "name": pl.String, "value": pl.Float64}, orient="row")


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential moving average that forgets the first weights: the decay grows to its value over the first steps.

    A lerp leaves equal values alone to the bit, so what is frozen stays what it was.
    """

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + steps) / (10 + steps)))

    return update


class _Training(L.LightningModule):
    def __init__(self, model: nn.Module, loss: Loss, draw: Draw, config: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.model, self.config, self.seed = model, config, seed
        self._loss, self._draw = loss, draw

    def configure_optimizers(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = self._optimizer(parameters)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        if config.muon:
            return MuonAdamW(
                parameters,
                muon=config.muon,
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                betas=config.betas,
            )
        decayed = [p for p in parameters if p.ndim > 1]  # no decay for biases and norms, as OpenLRM does
        plain = [p for p in parameters if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)

    def _rate(self, step: int) -> float:
        if step < self.config.warmup:
            return (step + 1) / self.config.warmup
        done = (step - self.config.warmup) / max(1, self.config.steps - self.config.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def train_dataloader(self) -> DataLoader[Batch]:
        # Lightning restores its loop state before it asks for the loader, so a resumed run starts at the right step.
        return DataLoader(_Steps(self._draw, self.seed, self.global_step, self.config.steps), batch_size=None)

    def training_step(self, batch: Batch) -> Tensor:
        values = self._loss(self.model, batch, torch_generator(self.seed, "noise", self.global_step))
        if not torch.isfinite(values["loss"]):
            raise FloatingPointError(
                f"loss is {values['loss'].item()} at step {self.global_step}: lower the learning rate "
                f"({self.config.learning_rate}) or look at the batch of this step"
            )
        self.log_dict({name: value.detach() for name, value in values.items()}, on_step=True)
        return values["loss"]


class _Steps(IterableDataset[Batch]):
    """The batch of every step from `first` on, each from its own seed. It has no length: Lightning would count the
    steps before a resume against it."""

    def __init__(self, draw: Draw, seed: int, first: int, last: int) -> None:
        self.draw, self.seed, self.first, self.last = draw, seed, first, last

    def __iter__(self) -> Iterator[Batch]:
        return (self.draw(torch_generator(self.seed, "batch", step), step) for step in range(self.first, self.last))


class _Curve(L.Callback):
    """Keeps means of the logged values, about a hundred points a training, and reports them."""

    def __init__(self, report: Report, steps: int) -> None:
        self.report, self.steps, self.every = report, steps, max(1, steps // 100)
        self.rows: list[tuple[int, str, float]] = []
        self.sums: dict[str, float] = {}
        self.count, self.started = 0, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for name, value in trainer.callback_metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        step = trainer.global_step
        if step % self.every == 0 or step == self.steps:
            means = {name: total / self.count for name, total in self.sums.items()}
            self.rows += [(step, name, mean) for name, mean in means.items()]
            self.report({"step": step, "of": self.steps, "seconds": time.monotonic() - self.started, **means})
            self.sums, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [list(row) for row in self.rows], "sums": self.sums, "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [(int(step), str(name), float(value)) for step, name, value in state_dict["rows"]]
        self.sums, self.count = dict(state_dict["sums"]), int(state_dict["count"])


def _newest_state(scratch: Path) -> Path | None:
    """The newest resume state that can be read; one torn by a kill is passed over."""
    states = sorted(scratch.glob("*.ckpt"), key=lambda path: int("".join(filter(str.isdigit, path.stem)) or 0))
    for state in reversed(states):
        try:
            torch.load(state, map_location="cpu", weights_only=True)
        except Exception:  # a torn zip file raises nearly any type
            state.unlink()
        else:
            return state
    return None
