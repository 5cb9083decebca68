"""The bench of the rasteriser: its plain side draws the same, and its rows say what they measure."""

from __future__ import annotations

import pytest
import torch

from models.camera import Camera
from models.splatting import splat
from orchestration.cli.bench import flexrm, flexrm_plain
from orchestration.cli.bench.registry import BENCHES


def test_the_plain_side_draws_the_same() -> None:
    ring = Camera.orbit(2, -18.0)
    for gaussians in flexrm.scenes().values():
        some = gaussians.kept(torch.arange(0, len(gaussians), 40))
        fields = (some.positions, some.scales, some.rotations, some.opacities, some.colours)
        ours = torch.cat(splat(some, ring, 16), 1)
        assert (ours - flexrm_plain.splat(*fields, ring, 16)).abs().mean() < 1e-4


def test_rows_have_seconds_a_target_and_how_far_both_sides_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: each.kept(torch.arange(0, len(each), 50)) for name, each in list(flexrm.scenes().items())[:1]}
    monkeypatch.setattr(flexrm, "scenes", lambda: few)
    assert "flexrm" in BENCHES
    forward, both = flexrm.rasteriser(lambda told: None)
    assert forward.work == "rasteriser, 64 px, 213 Gaussians, forward (solid grid)"
    assert (forward.target, both.target) == (0.2, 0.05)
    for row in (forward, both):
        assert row.peer is not None
        assert 0 < row.ours < row.peer
        assert row.max_diff is not None
        assert row.max_diff < 0.05
