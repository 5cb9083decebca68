"""The bench of the rasteriser: its plain side draws the same, and its rows say what they measure."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from models.camera import Camera
from models.splatting import splat
from orchestration.cli.bench import flexrm, flexrm_plain
from orchestration.cli.bench.flexrm_seeds import compared_rows, over_seeds
from orchestration.cli.bench.registry import BENCHES
from stages.flexrm.evaluate import CLEAN, CURATED, UNCURATED


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


def figures(gain: float) -> pl.DataFrame:
    """Two objects from 1 and 4 views, and a pool of each before and after curation."""
    rows = [
        {"inputs": inputs, "views": views, "object": name, "foreground_psnr": value + shift + gain}
        for name, shift in (("chair", -1.0), ("table", 1.0))
        for inputs, views, value in (
            (CLEAN, 1, 12.0),
            (CLEAN, 4, 14.0),
            (UNCURATED, 20, 8.0),
            (CURATED, 11 if name == "chair" else 13, 13.0),
        )
    ]
    return pl.DataFrame(rows)


def test_seeds_are_averaged_and_every_number_of_views_is_held_against_the_one_before():
    found = over_seeds([figures(0.0), figures(0.5), figures(-0.5)])
    means = {(inputs, views): (mean, spread) for inputs, views, mean, spread in found.iter_rows()}
    assert means == {
        (CLEAN, 1): (12.0, 0.5),
        (CLEAN, 4): (14.0, 0.5),
        (UNCURATED, 0): (8.0, 0.5),  # pools have any number of views
        (CURATED, 0): (13.0, 0.5),
    }
    rows = {row.work: row for row in compared_rows(found, seeds=3)}
    assert rows["foreground PSNR from 4 views, 3 seeds"].target == 12.0
    assert rows["foreground PSNR from 4 views, 3 seeds"].as_json()["met"]
    assert rows["foreground PSNR from 1 views, 3 seeds"].target is None
    assert rows[f"foreground PSNR from {CURATED}, 3 seeds"].peer == 8.0
