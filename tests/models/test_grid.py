"""Densities on a grid beside the same points asked one by one; the bounds behind the skipped blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grid import density_slabs, raw_of
from models.triplane import Decoder, Field, Triplane, density_of


def field(layers: int = 4, width: int = 8, seed: int = 0, scale: float = 1.0) -> Field:
    torch.manual_seed(seed)
    decoder = Decoder(9, width, layers, -1.0).double()
    planes = scale * torch.randn(1, 3, 3, 6, 7, dtype=torch.float64)
    return Field(decoder, Triplane(planes, 0.8))


def asked(of: Field, side: int) -> torch.Tensor:
    line = torch.linspace(-0.8, 0.8, side, dtype=torch.float64)
    points = torch.cartesian_prod(line, line, line)
    return density_of(of(points[None])[1]).view(side, side, side).detach()


@pytest.mark.parametrize("side", [8, 13, 17])
def test_a_grid_is_its_points(side: int) -> None:
    whole = torch.cat(list(density_slabs(field(), side)))
    torch.testing.assert_close(whole, asked(field(), side), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 5), st.integers(0, 1000), st.floats(0.05, 2.0), st.floats(0.02, 1.0))
def test_what_is_skipped_lies_below_with_all_its_neighbours(layers: int, seed: int, scale: float, share: float) -> None:
    own = field(layers, seed=seed, scale=scale)
    truth = asked(own, 18)
    below = share * float(truth.max())
    seen = torch.cat(list(density_slabs(own, 18, below)))
    skipped = (seen - truth).abs() > 1e-12
    assert (seen[skipped] == 0).all()
    around = torch.nn.functional.max_pool3d(truth[None], 3, 1, 1)[0]
    assert (around[skipped] < below).all()


def test_empty_blocks_are_skipped() -> None:
    own = field(scale=0.02)
    with torch.no_grad():
        own.layers[-1][0] = -8  # empty everywhere
    assert torch.cat(list(density_slabs(own, 16, 1.0))).max() == 0


def test_raw_and_density_are_inverse() -> None:
    values = torch.tensor([0.01, 1.0, 3.0, 40.0], dtype=torch.float64)
    back = density_of(torch.tensor([raw_of(float(value)) for value in values], dtype=torch.float64))
    torch.testing.assert_close(back, values)
