"""What the page is made of, as the assets `evaluation` and `scaling_trends` left it on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError

EVALUATION, TRENDS = "evaluation", "scaling_trends"
SIZE_OF_CORPUS = "synthetic size"

_TEXT, _NUMBER, _COUNT = pl.String(), pl.Float64(), pl.Int64()
_VALUES = {"model": _TEXT, "object": _TEXT, "id": _TEXT, "metric": _TEXT, "value": _NUMBER, "reason": _TEXT}
_INTERVAL = {"low": _NUMBER, "high": _NUMBER}
_MEANS = (
    {"model": _TEXT, "metric": _TEXT, "unit": _TEXT, "high_is_good": pl.Boolean(), "mean": _NUMBER}
    | _INTERVAL
    | {"objects": _COUNT, "failed": _COUNT, "protocol": _TEXT}
)
_COMPARISONS = (
    {"model": _TEXT, "against": _TEXT, "metric": _TEXT, "difference": _NUMBER}
    | _INTERVAL
    | {"probability": _NUMBER, "objects": _COUNT, "protocol": _TEXT}
)
_POINTS = (
    {"experiment": _TEXT, "point": _TEXT, "label": _TEXT, "x": _NUMBER, "seed": _COUNT, "metric": _TEXT}
    | {"mean": _NUMBER}
    | _INTERVAL
    | {"protocol": _TEXT, "steps": _COUNT}
)
_FITS = (
    {"experiment": _TEXT, "metric": _TEXT, "slope": _NUMBER}
    | _INTERVAL
    | {"spearman": _NUMBER, "points": _COUNT, "seeds": _COUNT}
)


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


def read_evaluation(folder: Path) -> Evaluation | None:
    """None where nobody made one. Raises OrbitforgeError, naming the file, for one that is damaged."""
    if not folder.is_dir():
        return None
    values = _table(folder / "table.parquet", _VALUES)
    if values.is_empty():
        raise OrbitforgeError(f"{folder / 'table.parquet'} is empty; {_again(folder)}")
    gallery = _json(folder / "gallery.json", list) if (folder / "gallery.json").exists() else []
    if strange := [entry for entry in gallery if not (isinstance(entry, dict) and isinstance(entry.get("id"), str))]:
        raise OrbitforgeError(f"{folder / 'gallery.json'}: {str(strange[0])[:80]!r} has no id; {_again(folder)}")
    return Evaluation(
        folder,
        _json(folder / "protocol.json", dict),
        values,
        _table(folder / "means.parquet", _MEANS),
        _table(folder / "comparisons.parquet", _COMPARISONS),
        gallery,
    )


def read_trends(folder: Path) -> Trends | None:
    """None where nobody made them. Raises OrbitforgeError as `read_evaluation` does."""
    if not folder.is_dir():
        return None
    points = _table(folder / "points.parquet", _POINTS)
    drawings = {SIZE_OF_CORPUS: folder / "trend.svg"}
    drawings |= {name: folder / f"{name}.svg" for name in points["experiment"].unique() if name != SIZE_OF_CORPUS}
    found = {
        name: path.read_bytes() for name, path in drawings.items() if path.parent == folder and path.is_file()
    }  # a name with a slash in it reaches no other folder
    return Trends(folder, points, _table(folder / "fits.parquet", _FITS), found)


def _table(path: Path, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
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
