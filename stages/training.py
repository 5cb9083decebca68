"""One Lightning training loop for every model: averaged weights, a curve, and exact resume.

An interrupted and resumed training ends with the bytes of an uninterrupted one, because batch and noise of a step
are drawn from (seed, step) alone (facts measured with Lightning 2.6: a stored generator is exact at epoch ends only).
A batch may be computed in parts, one after the other or on several devices: parts of that very batch and noise.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import polars as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, IterableDataset

from stages.averages import MovingAverage, whole
from stages.config import TrainingConfig
from stages.errors import InputError
from stages.memory import checkpoint_gradients, memory_told
from stages.optimisers import MuonAdamW
from stages.parts import RowsOfNoise, rows_of
from stages.ranks import Rank, on_ranks
from stages.seeds import torch_generator

Batch = Any
Draw = Callable[[torch.Generator, int], Batch]  # (generator, step)
Loss = Callable[[Any, Batch, torch.Generator], Mapping[str, Tensor]]  # (model, batch, generator)
Report = Callable[[dict[str, Any]], None]
Tell = Callable[[torch.Generator], Sequence[str]]  # one a sample


class NotFiniteError(InputError, FloatingPointError):
    """A training that left the numbers; the message says at which step and with which batch."""


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
    tell: Tell | None = None,
) -> pl.DataFrame:
    """Train the parameters of `model` that require a gradient; `model` then holds the averaged weights.

    `draw(generator, step)` makes the batch of a step, `loss(model, batch, generator)` returns named scalars whose
    "loss", a mean over samples, is minimised. `scratch` keeps the resume states; a restart with the same scratch
    continues there. `validate` measures the finished model. `tell(generator)` names the samples that `draw` makes of
    an equal generator, for the message of an error. Returns the curve: (step, name, value).
    Raises NotFiniteError when loss or gradient is not finite, before the step is taken and with the last good state
    kept; InputError out of memory, or where gradients cannot be checkpointed.
    """
    torch.set_num_threads(config.threads)
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if config.gradient_checkpointing:
        checkpoint_gradients(model)
    precision = _precision(config, report)
    state = _newest_state(scratch)
    if config.devices > 1:
        model.share_memory()  # rank 0 leaves the weights there

    def train(rank: Rank | None, report: Report) -> list[tuple[int, str, float]]:
        curve = _Curve(report, config.steps)
        # ranks train copies, which sharding changes for good
        module = _Training(model if rank is None else copy.deepcopy(model), loss, draw, config, seed, tell)
        average = MovingAverage(config.ema) if config.ema else None
        keep = ModelCheckpoint(
            dirpath=scratch,
            filename="{step}",
            monitor="step",
            mode="max",
            save_top_k=2,
            every_n_train_steps=config.checkpoint_every,
        )
        trainer = L.Trainer(
            max_steps=config.steps,
            accelerator="auto",
            devices=config.devices,
            strategy=_strategy(config) if rank is not None else "auto",
            plugins=[rank] if rank is not None else None,
            precision=precision,  # pyright: ignore[reportArgumentType]
            accumulate_grad_batches=config.accumulate // config.devices,
            gradient_clip_val=config.clip,
            # equal bytes there too, but for the gradient of grid_sample (LRM), which has no such algorithm
            deterministic="warn" if torch.cuda.is_available() else None,
            callbacks=[curve, keep, *([average] if average else [])],
            logger=loggers if loggers and (rank is None or rank.rank == 0) else False,
            log_every_n_steps=curve.every,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=scratch,
        )
        with warnings.catch_warnings(), memory_told(config):
            warnings.simplefilter("ignore")
            trainer.fit(module, ckpt_path=state, weights_only=True)
        if average and not average.left:
            average.leave(module)
        if rank is not None:
            # whole() is asked by all ranks in one order; the copy's names are those of the model
            weights = {name: whole(value).cpu() for name, value in module.model.state_dict().items()}
            if rank.rank == 0:
                model.load_state_dict(weights)
        return curve.rows

    try:
        rows = list(on_ranks(config.devices, train, report))
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}; {_last_good(scratch)}") from None
    if validate is not None:
        model.eval()
        with torch.no_grad():
            rows += [(config.steps, name, float(value)) for name, value in validate(model).items()]
    return pl.DataFrame(rows, schema={"step": pl.Int64, "name": pl.String, "value": pl.Float64}, orient="row")


def _strategy(config: TrainingConfig) -> Strategy:
    if config.strategy == "fsdp":
        return ModelParallelStrategy(config.devices, 1, save_distributed_checkpoint=False)
    return DDPStrategy(find_unused_parameters=True)  # the text slot of a video model is not used


def _precision(config: TrainingConfig, report: Report) -> str:
    """The precision that the device has."""
    if config.precision == "32-true" or _has_bfloat16():
        return config.precision
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU"
    report({"message": f"precision {config.precision}: {device} has no bfloat16 arithmetic; training in 32-true"})
    return "32-true"


def _has_bfloat16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)  # Ampere; asked of the driver, which leaves CUDA unused
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


class _Part(NamedTuple):
    """What is computed at a time: a part of the batch of a step."""

    step: int
    number: int
    batch: Batch


class _Computed(nn.Module):
    """The loss as a module's own forward pass, which is where sharded weights are gathered."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        return self._loss(self.model, batch, generator)


class _Training(L.LightningModule):
    def __init__(
        self, model: nn.Module, loss: Loss, draw: Draw, config: TrainingConfig, seed: int, tell: Tell | None
    ) -> None:
        super().__init__()
        self.computed, self.config, self.seed = _Computed(model, loss), config, seed
        self._draw, self._tell = draw, tell

    @property
    def model(self) -> nn.Module:
        return self.computed.model

    def configure_model(self) -> None:
        """Shard every block of a list of blocks by itself, and what is left as one; called once a fit."""
        if self.device_mesh is None:
            return
        mesh = self.device_mesh["data_parallel"]
        for part in list(self.model.modules()):
            if isinstance(part, nn.ModuleList):
                for block in part:
                    fully_shard(block, mesh=mesh)
        fully_shard(self.computed, mesh=mesh)

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

    def train_dataloader(self) -> DataLoader[_Part]:
        # Lightning restores its loop state before it asks for the loader, so a resumed run starts at the right step.
        each = self.config.accumulate // self.config.devices
        own = range(each * self.global_rank, each * (self.global_rank + 1))
        return DataLoader(_Parts(self._draw, self.config, self.seed, self.global_step, own), batch_size=None)

    def training_step(self, part: _Part) -> Tensor:
        generator, parts = torch_generator(self.seed, "noise", part.step), self.config.accumulate
        with RowsOfNoise(part.number, parts, self.config.part) if parts > 1 else nullcontext():
            values = self.computed(part.batch, generator)
        found = torch.stack((values["loss"].detach(), values["loss"].new_tensor(float(part.number))))
        if self.config.devices > 1:  # all ranks stop together
            found = cast(Tensor, self.all_gather(found))
        for value, number in found.view(-1, 2).tolist():
            if not math.isfinite(value):
                self._stop(f"loss is {value}", part.step, [int(number)])
        self.log_dict({name: value.detach() for name, value in values.items()}, on_step=True, sync_dist=True)
        return values["loss"]

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """As Lightning clips, but a norm that is not finite ends the training before it reaches the weights."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(whole(nn.utils.clip_grad_norm_(parameters, self.config.clip)))
        if not math.isfinite(norm):
            self._stop(f"the norm of the gradient is {norm}", self.global_step, list(range(self.config.accumulate)))

    def _stop(self, what: str, step: int, parts: list[int]) -> None:
        part = f", part {parts[0] + 1} of {self.config.accumulate}" if len(parts) < self.config.accumulate else ""
        samples = ""
        if self._tell is not None:
            names = self._tell(torch_generator(self.seed, "batch", step))
            each = self.config.part
            told = ", ".join(name for number in parts for name in names[each * number : each * (number + 1)])
            samples = f" ({told if len(told) <= _TOLD else told[:_TOLD] + ' ...'})"
        raise NotFiniteError(
            f"{what} at step {step}{part}: lower the learning rate ({self.config.learning_rate}) or look at the batch "
            f"of this step{samples}"
        )


_TOLD = 1000
"""Characters of an error's list of samples."""


class _Parts(IterableDataset[_Part]):
    """This rank's parts of every step from `first` on; a step's batch is drawn from its own seed. It has no length:
    Lightning would count the steps before a resume against it."""

    def __init__(self, draw: Draw, config: TrainingConfig, seed: int, first: int, own: range) -> None:
        self.draw, self.config, self.seed, self.first, self.own = draw, config, seed, first, own

    def __iter__(self) -> Iterator[_Part]:
        for step in range(self.first, self.config.steps):
            batch = self.draw(torch_generator(self.seed, "batch", step), step)
            for number in self.own:
                yield _Part(step, number, rows_of(batch, number, self.config.accumulate))


class _Curve(L.Callback):
    """Keeps means of the logged values, about a hundred points a training, and reports them."""

    def __init__(self, report: Report, steps: int) -> None:
        self.report, self.steps, self.every = report, steps, max(1, steps // 100)
        self.rows: list[tuple[int, str, float]] = []
        self.sums: dict[str, float] = {}
        self.count, self.done, self.started = 0, 0, time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for name, value in trainer.callback_metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        step = trainer.global_step
        if step == self.done:  # a part of a step
            return
        self.done = step
        if step % self.every == 0 or step == self.steps:
            means = {name: total / self.count for name, total in self.sums.items()}
            self.rows += [(step, name, mean) for name, mean in means.items()]
            if trainer.is_global_zero:
                self.report({"step": step, "of": self.steps, "seconds": time.monotonic() - self.started, **means})
            self.sums, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        rows = [list(row) for row in self.rows]
        return {"rows": rows, "sums": self.sums, "count": self.count, "done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [(int(step), str(name), float(value)) for step, name, value in state_dict["rows"]]
        self.sums, self.count, self.done = dict(state_dict["sums"]), int(state_dict["count"]), int(state_dict["done"])


def _newest_state(scratch: Path) -> Path | None:
    """The newest resume state that can be read; one torn by a kill is passed over."""
    for state in _states(scratch):
        try:
            torch.load(state, map_location="cpu", weights_only=True, mmap=True)  # the tensors are not read yet
        except (OSError, MemoryError):  # says nothing of the file
            raise
        except Exception:  # a torn zip file raises nearly any type
            state.unlink()
        else:
            return state
    return None


def _last_good(scratch: Path) -> str:
    """Drop resume states whose weights are not finite, newest first, and tell which is kept."""
    for state in _states(scratch):
        weights = torch.load(state, map_location="cpu", weights_only=True)["state_dict"].values()
        if all(bool(value.isfinite().all()) for value in weights):
            return f"the last good state, {state.name}, is kept and a restart continues there"
        state.unlink()
    return "there was no resume state yet"


def _states(scratch: Path) -> list[Path]:
    """The newest first."""
    return sorted(scratch.glob("*.ckpt"), key=lambda path: -int("".join(filter(str.isdigit, path.stem)) or 0))
