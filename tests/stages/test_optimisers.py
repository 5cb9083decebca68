"""Muon and AdamW in one optimiser do what each does alone."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from stages.optimisers import MuonAdamW


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    model.zero_grad()
    model(torch.randn(4, 1, 4, 4, generator=generator)).square().mean().backward()


def test_each_part_moves_as_it_would_alone() -> None:
    joint, apart = network(), network()
    optimiser = MuonAdamW(joint.parameters(), muon=0.02, learning_rate=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    matrices = [p for p in apart.parameters() if p.ndim == 2]
    kernels = [p for p in apart.parameters() if p.ndim > 2]
    plain = [p for p in apart.parameters() if p.ndim < 2]
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1)
    adamw = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.95)
    )
    for step in range(5):
        for model in (joint, apart):
            gradients(model, step)
        optimiser.step()
        muon.step()
        adamw.step()
    for ours, theirs in zip(joint.parameters(), apart.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_schedule_reaches_both_and_state_survives() -> None:
    model = network()
    optimiser = MuonAdamW(model.parameters(), muon=0.02, learning_rate=1e-3, weight_decay=0.0, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)
    gradients(model, 0)
    optimiser.step()
    schedule.step()
    assert [group["lr"] for group in optimiser.param_groups] == [0.01, 5e-4, 5e-4]

    copy = network()
    copy.load_state_dict(model.state_dict())
    again = MuonAdamW(copy.parameters(), muon=0.02, learning_rate=1e-3, weight_decay=0.0, betas=(0.9, 0.95))
    again.load_state_dict(deepcopy(optimiser.state_dict()))
    for each, chosen in ((model, optimiser), (copy, again)):
        gradients(each, 1)
        chosen.step()
    for ours, theirs in zip(model.parameters(), copy.parameters(), strict=True):
        assert torch.equal(ours, theirs)
