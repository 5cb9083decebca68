"""What the page is made of, as the assets `evaluation` and `scaling_trends` left it on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError
from stages.evaluation.tables import COMPARISONS, MEANS, TABLE
from stages.scaling.tables import FITS, PLACES

EVALUATION, TRENDS, FLEXRM = "evaluation", "scaling_trends", "flexrm_evaluation"
SIZE_OF_CORPUS = "synthetic size"

BY_VIEWS: Mapping[str, type[pl.DataType]] = {
    "inputs": pl.String,
    "views": pl.Int64,
    "object": pl.String,
    "psnr": pl.Float64,
    "foreground_psnr": pl.Float64,
    "iou": pl.Float64,
}
"""Columns of the figures of `flexrm_evaluation`: one reconstruction of a held-out object a row."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation; NaN is null in all tables. `values` has a row for each model, object, orbit and metric, with a
    value or the reason why there is none. The first model is the one that the page shows."""

    folder: Path
    protocol: Mapping[str, Any]
    values: pl.DataFrame
    means: pl.DataFrame
    comparisons: pl.DataFrame
    gallery: list[dict[str, Any]]

    @property
    def shown(self) -> str:
        return self.values["model"][0]


@dataclass(frozen=True)
class Trends:
    """The points of all experiments, the fits of those over a size, and a drawing (SVG) of each of these."""

    folder: Path
    points: pl.DataFrame
    fits: pl.DataFrame
    drawings: Mapping[str, bytes]


@dataclass(frozen=True)
class FlexRM:
    """The reconstruction from any number of views: `figures` on held-out objects; the folder has one as splats."""

    folder: Path
    figures: pl.DataFrame


def read_evaluation(folder: Path) -> Evaluation | None:
    """None where nobody made one. Raises OrbitforgeError, naming the file, for one that is damaged."""
    if not folder.is_dir():
        return None
    values = _table(folder / "table.parquet", TABLE)
    if values.is_empty():
        raise OrbitforgeError(f"{folder / 'table.parquet'} is empty; {_again(folder)}")
    gallery = _json(folder / "gallery.json", list) if (folder / "gallery.json").exists() else []
    if strange := [entry for entry in gallery if not (isinstance(entry, dict) and isinstance(entry.get("id"), str))]:
        raise OrbitforgeError(f"{folder / 'gallery.json'}: {str(strange[0])[:80]!r} has no id; {_again(folder)}")
    return Evaluation(
        folder,
        _json(folder / "protocol.json", dict),
        values,
        _table(folder / "means.parquet", MEANS),
        _table(folder / "comparisons.parquet", COMPARISONS),
        gallery,
    )


def read_trends(folder: Path) -> Trends | None:
    """None where nobody made them. Raises OrbitforgeError as `read_evaluation` does."""
    if not folder.is_dir():
        return None
    points = _table(folder / "points.parquet", PLACES)
    drawings = {SIZE_OF_CORPUS: folder / "trend.svg"}
    drawings |= {name: folder / f"{name}.svg" for name in points["experiment"].unique() if name != SIZE_OF_CORPUS}
    found = {
        name: path.read_bytes() for name, path in drawings.items() if path.parent == folder and path.is_file()
    }  # a name with a slash in it reaches no other folder
    return Trends(folder, points, _table(folder / "fits.parquet", FITS), found)


def read_flexrm(folder: Path) -> FlexRM | None:
    """None where nobody made it. Raises OrbitforgeError as `read_evaluation` does."""
    return FlexRM(folder, _table(folder / "figures.parquet", BY_VIEWS)) if folder.is_dir() else None


def _table(path: Path, columns: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path)
        if lacking := [name for name in columns if name not in table.columns]:
            raise OrbitforgeError(f"{path} has no column {', '.join(lacking)}; {_again(path.parent)}")
        return table.select(pl.col(name).cast(kind) for name, kind in columns.items()).with_columns(
            pl.selectors.float().fill_nan(None)
        )
    except FileNotFoundError:
        raise OrbitforgeError(f"{path} is missing; {_again(path.parent)}") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise OrbitforgeError(
            f"{path} cannot be read ({' '.join(str(error).split())}); {_again(path.parent)}"
        ) from None


def _json(path: Path, kind: type) -> Any:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise OrbitforgeError(f"{path} is missing; {_again(path.parent)}") from None
    except ValueError as error:
        raise OrbitforgeError(f"{path} is no JSON ({error}); {_again(path.parent)}") from None
    if not isinstance(found, kind):
        raise OrbitforgeError(f"{path} holds a {type(found).__name__}, not a {kind.__name__}; {_again(path.parent)}")
    return found


def _again(folder: Path) -> str:
    return f"make it again: remove {folder} and `orbitforge run --select {folder.name}`"
