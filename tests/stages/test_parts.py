"""A batch in parts: rows of tensors, and of the random numbers that are drawn for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from models.config import EncoderConfig, LRMConfig
from models.lrm import LRM
from stages.parts import RowsOfNoise, rows_of
from stages.reconstruction.config import DrawConfig, LossConfig
from stages.reconstruction.data import draw_rays
from stages.reconstruction.train import ray_loss
from tests.stages.test_reconstruction import ball_orbits


class Pair(NamedTuple):
    one: Tensor
    other: dict[str, Tensor]


@dataclass(frozen=True)
class Held:
    pair: Pair
    patch: int = 3


def test_rows_of_whatever_a_batch_is_made_of() -> None:
    batch = Held(Pair(torch.arange(6), {"x": torch.arange(12).view(6, 2)}))
    parts = [rows_of(batch, number, 3) for number in range(3)]
    assert all(isinstance(part, Held) and isinstance(part.pair, Pair) and part.patch == 3 for part in parts)
    assert torch.equal(torch.cat([part.pair.one for part in parts]), batch.pair.one)
    assert torch.equal(torch.cat([part.pair.other["x"] for part in parts]), batch.pair.other["x"])
    assert rows_of(batch, 0, 1) is batch


@pytest.mark.parametrize("batch", [torch.zeros(5), torch.tensor(0.0)])
def test_what_cannot_be_cut_is_refused(batch: Tensor) -> None:
    with pytest.raises(ValueError, match="cannot be cut into 2 equal parts"):
        rows_of((batch,), 0, 2)


def test_unknown_things_are_refused() -> None:
    with pytest.raises(TypeError, match=r"holds list cannot be cut into parts; set training.accumulate to 1"):
        rows_of(["a", "b"], 0, 2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def drawn(count: int, source: torch.Generator) -> list[Tensor]:
    shape = torch.Size((count, 2))
    return [
        torch.randn(count, generator=source),
        torch.rand(shape, generator=source, dtype=torch.float64),
        torch.rand(count, 3, 1, generator=source),
    ]


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_draw_the_rows_of_the_batch(parts: int) -> None:
    whole, made = drawn(6, generator()), []
    for number in range(parts):
        with RowsOfNoise(number, parts, 6 // parts):
            made.append(drawn(6 // parts, generator()))
            torch.rand(7)  # without a generator: not the batch's
    for wanted, *found in zip(whole, *made, strict=True):
        assert torch.equal(torch.cat(found), wanted)


@pytest.mark.parametrize(
    "draw",
    [
        lambda source: torch.rand(4, 2, generator=source),
        lambda source: torch.randint(5, (3,), generator=source),
        lambda source: torch.rand((), generator=source),
    ],
)
def test_numbers_that_are_no_rows_are_refused(draw: Any) -> None:
    with RowsOfNoise(0, 2, 3), pytest.raises(ValueError, match=r"set training.accumulate to 1"):
        draw(generator())


def test_the_gradient_of_a_reconstruction_is_the_mean_of_its_parts() -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(image_size=32, table_size=32, patch=8, width=16, layers=1, heads=2)
    lrm = LRM(LRMConfig(encoder=encoder, camera_width=8, width=32, layers=1, heads=2, plane_tokens=4, channels=4))
    draws = DrawConfig.model_validate({"rays": 32})
    batch = draw_rays(ball_orbits(), 4, draws, generator())
    losses = LossConfig.model_validate({})

    def gradient(parts: int) -> Tensor:
        lrm.zero_grad()
        for number in range(parts):
            with RowsOfNoise(number, parts, 4 // parts):
                loss = ray_loss(lrm, rows_of(batch, number, parts), losses, generator())["loss"] / parts
            loss.backward()
        return torch.cat([p.grad.flatten() for p in lrm.parameters() if p.grad is not None])

    whole = gradient(1)
    for parts in (2, 4):
        assert torch.allclose(gradient(parts), whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-3)
