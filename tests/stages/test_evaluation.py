"""Figures on held-out objects: what they count, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.camera import Camera
from stages.evaluation.held_out import (
    Predictions,
    baselines,
    figures,
    input_view,
    interval,
    protocol_id,
    save_figures,
)
from stages.reconstruction.config import ProtocolConfig
from stages.reconstruction.data import Orbits

PROTOCOL = ProtocolConfig.model_validate({})


def squares(count: int = 2, views: int = 16, side: int = 8) -> Orbits:
    """A grey square that covers a quarter of every view; its brightness tells the view."""
    alpha = torch.zeros(count, views, side, side, dtype=torch.uint8)
    alpha[..., 2:6, 2:6] = 255
    grey = (10 * torch.arange(views, dtype=torch.uint8))[:, None, None, None]
    rgb = torch.where(alpha[:, :, None] > 0, grey, torch.tensor(255, dtype=torch.uint8)).expand(-1, -1, 3, -1, -1)
    numbers = Camera.orbit(views, 20.0).numbers().expand(count, -1, -1)
    return Orbits(rgb, alpha, Camera.from_numbers(numbers), tuple(f"square{k}-0-0" for k in range(count)))


def truth_of(orbits: Orbits) -> Predictions:
    return Predictions(orbits.rgb.float() / 255, orbits.alpha.float() / 255)


def test_the_input_is_the_view_nearest_to_the_protocol() -> None:
    assert input_view(squares(), PROTOCOL) == 10  # 225 degrees in steps of 22.5
    assert input_view(squares(views=8), PROTOCOL.model_copy(update={"input_azimuth": 359.0})) == 0


def test_the_truth_is_perfect() -> None:
    table = figures(truth_of(squares()), squares(), PROTOCOL)
    assert (table["iou"] == 1).all()
    assert (table["foreground_psnr"] > 100).all()
    assert table["object"].to_list() == ["square0", "square1"]


def test_foreground_counts_truth_or_prediction_alone() -> None:
    """An error of 0.1 on the square alone: 20 dB there, 6 dB better over all pixels, of which it is a quarter."""
    orbits = squares()
    truth = truth_of(orbits)
    inside = orbits.alpha[:, :, None] > 127
    off = Predictions(torch.where(inside, truth.rgb + 0.1, truth.rgb), truth.alpha)
    row = figures(off, orbits, PROTOCOL).row(0, named=True)
    assert row["foreground_psnr"] == pytest.approx(20, abs=1e-3)
    assert row["psnr"] == pytest.approx(20 + 10 * np.log10(4), abs=1e-3)
    wide = Predictions(truth.rgb, torch.ones_like(truth.alpha))
    assert figures(wide, orbits, PROTOCOL).row(0, named=True)["iou"] == pytest.approx(0.25)
    nothing = Predictions(torch.ones_like(truth.rgb), torch.zeros_like(truth.alpha))
    assert figures(nothing, orbits, PROTOCOL).row(0, named=True)["iou"] == 0


def test_the_input_view_itself_is_not_counted() -> None:
    orbits = squares()
    truth = truth_of(orbits)
    spoiled = truth.rgb.clone()
    spoiled[:, 10] = 0
    assert figures(Predictions(spoiled, truth.alpha), orbits, PROTOCOL).equals(figures(truth, orbits, PROTOCOL))


def test_baselines_need_no_model() -> None:
    training, orbits = squares(3), squares(1)
    made = baselines(training, orbits, PROTOCOL)
    torch.testing.assert_close(made["mean image"].rgb[0], training.rgb[0].float() / 255)
    copy = made["copy of the input"].rgb
    assert copy.shape == orbits.rgb.shape
    assert (copy == orbits.rgb[:, 10:11].float() / 255).all()


def test_the_interval_is_over_objects() -> None:
    table = pl.DataFrame({"object": ["a", "a", "b", "c"], "iou": [0.0, 1.0, 0.4, 0.6]})
    found = interval(table, "iou")
    assert found["mean"] == pytest.approx(0.5)
    assert 0.4 <= found["low"] < 0.5 < found["high"] <= 0.6
    assert interval(table, "iou") == found


def test_figures_are_written_with_the_protocol(tmp_path: Path) -> None:
    orbits = squares()
    made = {"lrm": truth_of(orbits), **baselines(squares(3), orbits, PROTOCOL)}
    means = save_figures(made, orbits, PROTOCOL, tmp_path, tmp_path / "preview")
    assert means["lrm/iou"] == 1
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["protocol"] == protocol_id(PROTOCOL)
    assert content["figures"]["lrm"]["iou"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "objects": 2}
    assert len(pl.read_parquet(tmp_path / "metrics.parquet")) == 6
    assert (tmp_path / "preview" / "held-out.png").is_file()
    assert protocol_id(PROTOCOL) != protocol_id(PROTOCOL.model_copy(update={"input_azimuth": 0.0}))


def test_an_object_that_nobody_shows_is_counted_out() -> None:
    orbits = squares()
    white, nothing = torch.full_like(orbits.rgb, 255), torch.zeros_like(orbits.alpha)
    blank = Orbits(white, nothing, orbits.cameras, orbits.ids)
    table = figures(truth_of(blank), blank, PROTOCOL)
    assert table["foreground_psnr"].null_count() == table["iou"].null_count() == len(table)
    some = table.with_columns(iou=pl.when(pl.int_range(pl.len()) == 0).then(0.5))
    assert interval(some, "iou")["objects"] == 1
