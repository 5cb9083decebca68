"""What the points say together: means, slopes per doubling with intervals, and pictures of them.

trends(points, grid, protocol, steps, output)
    points   folder of sub-folders, one a point's key, each with metrics.parquet
    -> output/points.parquet  experiment, point, label, x, seed, metric, mean, low, high, objects, protocol, steps
       output/fits.parquet    experiment, metric, slope (per doubling of x), low, high, spearman, points, objects, seeds
       output/<experiment>.svg   of the experiments over a size; trend.svg is that of the synthetic size
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import rankdata

from stages.errors import InputError
from stages.evaluation.held_out import interval
from stages.scaling.config import GridConfig
from stages.scaling.points import SIZE, places
from stages.scaling.tables import FITS, PLACES

DRAWS = 2000
"""Of a bootstrap over objects and seeds."""


def trends(points: Path, grid: GridConfig, protocol: str, steps: int, output: Path) -> pl.DataFrame:
    """Write the tables and pictures; returns the fits. Raises InputError where a point of the grid is missing."""
    measured = _measured(points, grid)
    table = _points(measured, protocol, steps)
    fitted = fits(measured)
    table.write_parquet(output / "points.parquet")
    fitted.write_parquet(output / "fits.parquet")
    for (experiment,), rows in table.filter(pl.col("x").is_not_null()).group_by("experiment", maintain_order=True):
        name = "trend" if experiment == SIZE else str(experiment).replace(" ", "-")
        draw(rows, fitted.filter(pl.col("experiment") == experiment), str(experiment), output / f"{name}.svg")
    return fitted


def _measured(points: Path, grid: GridConfig) -> pl.DataFrame:
    """experiment, label, x, point, seed, id, object, metric, value: every figure at every place where it counts."""
    found: dict[str, pl.DataFrame] = {}
    rows = []
    for experiment, label, x, point in places(grid):
        file = points / point.key / "metrics.parquet"
        if not file.is_file():
            raise InputError(f"{file} is missing: make the point {point.key} first, with `orbitforge scaling`")
        figures = found.setdefault(point.key, pl.read_parquet(file))
        place = {"experiment": experiment, "label": label, "point": point.key}
        rows.append(
            figures.with_columns(
                **{name: pl.lit(value) for name, value in place.items()},
                x=pl.lit(x, pl.Float64),
                seed=pl.lit(point.seed, pl.Int64),
            )
        )
    if not rows:
        raise InputError("scaling.grid has no sizes, so there is nothing to compare; give it clips or objects")
    return pl.concat(rows)


def _points(measured: pl.DataFrame, protocol: str, steps: int) -> pl.DataFrame:
    keys = ["experiment", "point", "label", "x", "seed", "metric"]
    rows = [
        {**dict(zip(keys, values, strict=True)), **interval(part, "value")}
        for values, part in measured.group_by(keys, maintain_order=True)
    ]
    return pl.DataFrame([row | {"protocol": protocol, "steps": steps} for row in rows], schema=PLACES)


def fits(measured: pl.DataFrame) -> pl.DataFrame:
    """A line through the means over the logarithm of the size, for each experiment over a size and each metric.

    The interval of the slope comes from a bootstrap that draws objects and, at each size, seeds.
    """
    rows = []
    sized = measured.filter(pl.col("x").is_not_null())
    for (experiment, metric), part in sized.group_by("experiment", "metric", maintain_order=True):
        cube, sizes = _cube(part)  # [sizes, seeds, objects]
        if len(sizes) < 2:
            continue
        low, high = np.quantile(_bootstrapped_slopes(cube, sizes), (0.025, 0.975))
        means = cube.mean((1, 2))
        rows.append(
            {
                "experiment": experiment,
                "metric": metric,
                "slope": slope(sizes, means),
                "low": float(low),
                "high": float(high),
                "spearman": spearman(sizes, means),
                "points": len(sizes),
                "objects": cube.shape[2],
                "seeds": cube.shape[1],
            }
        )
    return pl.DataFrame(rows, schema=FITS)


def slope(sizes: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> float:
    """Of the least-squares line, in units of the metric per doubling of the size."""
    return float(np.polyfit(np.log2(sizes), values, 1)[0])


def spearman(sizes: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> float:
    """Rank correlation, ties at their mean rank; 0 where all values are equal."""
    ranks = np.stack((rankdata(sizes), rankdata(values)))
    return 0.0 if np.ptp(values) == 0 else float(np.corrcoef(ranks)[0, 1])


def _cube(part: pl.DataFrame) -> tuple[Float[np.ndarray, "sizes seeds objects"], Float[np.ndarray, " sizes"]]:
    means = part.group_by("x", "seed", "object").agg(pl.col("value").mean())
    lacking = means.filter(pl.col("value").is_null())["object"]  # no point shows them, so none can be compared there
    means = means.filter(~pl.col("object").is_in(lacking.implode())).sort("x", "seed", "object")
    shape = tuple(means[name].n_unique() for name in ("x", "seed", "object"))
    if np.prod(shape) != len(means):
        raise InputError(
            f"points measured different objects: {len(means)} figures are not {' x '.join(map(str, shape))}"
        )
    return means["value"].to_numpy().reshape(shape), means["x"].unique().sort().to_numpy()


def _bootstrapped_slopes(
    cube: Float[np.ndarray, "sizes seeds objects"], sizes: Float[np.ndarray, " sizes"]
) -> Float[np.ndarray, " draws"]:
    rng = np.random.default_rng(0)
    count, seeds, objects = cube.shape
    which = rng.integers(objects, size=(DRAWS, objects))
    of_seeds = cube[:, :, which].mean(-1).transpose(2, 0, 1)  # [draws, sizes, seeds]
    picked = rng.integers(seeds, size=(DRAWS, count, seeds))
    means = np.take_along_axis(of_seeds, picked, axis=2).mean(-1)
    return np.polyfit(np.log2(sizes), means.T, 1)[0]


def draw(rows: pl.DataFrame, fitted: pl.DataFrame, experiment: str, file: Path) -> None:
    """Size against each metric: every point with its interval over objects, the means over seeds and their line."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = {"synthetic size": "synthetic clips", "objects": "3D objects"}
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    with mpl.rc_context({"svg.hashsalt": "orbitforge", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4 * len(metrics), 3.2), layout="constrained")
        for number, metric in enumerate(metrics, start=1):
            axes = figure.add_subplot(1, len(metrics), number)
            part = rows.filter(pl.col("metric") == metric).sort("x", "seed")
            for shift, ((_,), one) in enumerate(part.group_by("seed", maintain_order=True)):
                x, y = one["x"].to_numpy() * 1.04 ** (shift - 1), one["mean"].to_numpy()
                around = np.abs(one.select("low", "high").to_numpy().T - y)
                axes.errorbar(x, y, around, fmt="o", ms=3, lw=0.6, alpha=0.5, color="tab:blue")
            means = part.group_by("x", maintain_order=True).agg(pl.col("mean").mean())
            axes.plot(means["x"], means["mean"], "s", ms=5, color="tab:red")
            line = np.polyfit(np.log2(means["x"].to_numpy()), means["mean"].to_numpy(), 1)
            axes.plot(means["x"], np.polyval(line, np.log2(means["x"].to_numpy())), "-", lw=1, color="tab:red")
            for fit in fitted.filter(pl.col("metric") == metric).to_dicts():
                axes.set_title(
                    f"{fit['slope']:+.3g} [{fit['low']:.2g}, {fit['high']:.2g}] a doubling, "
                    f"rank correlation {fit['spearman']:.2f}",
                    fontsize=8,
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(means["x"].to_list(), [f"{size:g}" for size in means["x"]])
            axes.set_xlabel(names.get(experiment, experiment))
            axes.set_ylabel(LABELS.get(str(metric), str(metric)))
        figure.savefig(file, metadata={"Date": None, "Creator": None})


LABELS = {"psnr": "PSNR, dB", "foreground_psnr": "foreground PSNR, dB", "iou": "silhouette IoU"}
