"""Training: an interrupted and resumed run ends with the bytes of an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

from stages.config import TrainingConfig
from stages.training import fit

CONFIG = TrainingConfig(steps=40, batch=4, learning_rate=1e-2, ema=0.9, warmup=5, checkpoint_every=10)


class StopError(Exception):
    pass


def train(
    scratch: Path, seed: int = 1, stop_after: int | None = None, **changes: Any
) -> tuple[nn.Module, pl.DataFrame]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    seen = 0

    def loss(net: nn.Module, batch: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        nonlocal seen
        seen += 1
        if seen == stop_after:
            raise StopError
        noisy = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        return {"loss": (net(noisy) - noisy.sum(1, keepdim=True)).square().mean()}

    curve = fit(
        model,
        loss,
        lambda generator, _: torch.randn(4, 4, generator=generator),
        CONFIG.model_copy(update=changes),
        seed=seed,
        scratch=scratch,
        report=lambda event: None,
    )
    return model, curve


def weights(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(("stop_after", "muon"), [(3, 0.0), (11, 0.0), (27, 0.0), (27, 0.02)])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, stop_after: int, muon: float) -> None:
    whole, curve = train(tmp_path / "whole", muon=muon)
    with pytest.raises(StopError):
        train(tmp_path / "cut", stop_after=stop_after, muon=muon)
    resumed, resumed_curve = train(tmp_path / "cut", muon=muon)
    assert torch.equal(weights(whole), weights(resumed))
    assert curve.equals(resumed_curve)


def test_a_torn_resume_state_is_passed_over(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(StopError):
        train(tmp_path / "cut", stop_after=27)
    newest = tmp_path / "cut" / "step=20.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed, _ = train(tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))


def test_the_seed_decides(tmp_path: Path) -> None:
    assert not torch.equal(weights(train(tmp_path / "a")[0]), weights(train(tmp_path / "b", seed=2)[0]))


def test_the_averaged_weights_are_kept(tmp_path: Path) -> None:
    averaged, last = train(tmp_path / "a")[0], train(tmp_path / "b", ema=0.0)[0]
    assert not torch.equal(weights(averaged), weights(last))


def test_a_loss_that_is_not_finite_says_where(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="at step 0"):
        fit(
            model,
            lambda net, batch, generator: {"loss": net(batch).sum() * torch.nan},
            lambda generator, _: torch.ones(1, 1),
            CONFIG,
            seed=0,
            scratch=tmp_path,
            report=lambda event: None,
        )
