from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from stages.errors import InputError
from stages.scaling.config import GridConfig
from stages.scaling.points import SIZE, Point, places
from stages.scaling.trends import slope, spearman, trends

GRID = GridConfig.model_validate({"clips": (4, 8, 16, 32), "seeds": (0, 1, 2)})
OBJECTS = 7


def write_points(folder: Path, rise: float, noise: float = 0.05) -> Path:
    """Every point of GRID, its IoU growing by `rise` a doubling."""
    rng = np.random.default_rng(3)
    of_objects = rng.normal(size=OBJECTS)
    for place in places(GRID):
        (folder / place.point.key).mkdir(parents=True, exist_ok=True)
        iou = rise * np.log2(place.point.clips) + of_objects + noise * rng.normal(size=OBJECTS)
        ids = [f"o{number}-0-0" for number in range(OBJECTS)]
        rows = {"id": ids, "object": [id_[:2] for id_ in ids], "metric": ["iou"] * OBJECTS, "value": iou}
        pl.DataFrame(rows).write_parquet(folder / place.point.key / "metrics.parquet")
    return folder


def run(folder: Path, rise: float) -> tuple[dict, pl.DataFrame, Path]:
    output = folder / "output"
    output.mkdir()
    fits = trends(write_points(folder / "points", rise), GRID, "held-out-1234", 300, output)
    return fits.filter(pl.col("experiment") == SIZE).to_dicts()[0], pl.read_parquet(output / "points.parquet"), output


def test_a_rise_is_found_with_its_interval(tmp_path: Path):
    fit, points, output = run(tmp_path, 0.3)
    assert fit["low"] < 0.3 < fit["high"]
    assert fit["low"] > 0
    assert (fit["spearman"], fit["points"], fit["seeds"]) == (1.0, 4, 3)
    sizes = points.filter(pl.col("experiment") == SIZE)
    assert len(sizes) == 12
    assert sizes["protocol"].unique().to_list() == ["held-out-1234"]
    assert (points["low"] <= points["mean"]).all()
    assert "clips" in (output / "trend.svg").read_text()


def test_no_rise_is_not_claimed(tmp_path: Path):
    fit, _, _ = run(tmp_path, 0.0)
    assert fit["low"] < 0 < fit["high"]


def test_equal_points_give_equal_bytes(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = (run(tmp_path / name, 0.1)[2] for name in "ab")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


def test_a_missing_point_is_named(tmp_path: Path):
    folder = write_points(tmp_path / "points", 0.1)
    gone = Point(8, 0, seed=1).key
    (folder / gone / "metrics.parquet").unlink()
    (tmp_path / "output").mkdir()
    with pytest.raises(InputError, match=f"make the point {gone} first, with `orbitforge scaling`"):
        trends(folder, GRID, "p", 1, tmp_path / "output")


def test_points_of_different_objects_are_refused(tmp_path: Path):
    folder = write_points(tmp_path / "points", 0.1)
    file = folder / Point(8, 0, seed=1).key / "metrics.parquet"
    pl.read_parquet(file).head(3).write_parquet(file)
    (tmp_path / "output").mkdir()
    with pytest.raises(InputError, match="measured different objects"):
        trends(folder, GRID, "p", 1, tmp_path / "output")


def test_an_empty_grid_says_so(tmp_path: Path):
    with pytest.raises(InputError, match="no sizes"):
        trends(tmp_path, GridConfig.model_validate({}), "p", 1, tmp_path)


def test_slope_and_rank_correlation_are_those_of_scipy():
    rng = np.random.default_rng(0)
    sizes, values = 2.0 ** np.arange(6), rng.normal(size=6).round(1)
    assert slope(sizes, values) == pytest.approx(stats.linregress(np.log2(sizes), values)[0], abs=1e-9)
    assert spearman(sizes, values) == pytest.approx(stats.spearmanr(sizes, values)[0], abs=1e-9)
    assert spearman(sizes, np.ones(6)) == 0
