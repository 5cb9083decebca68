"""The columns of what the scaling experiments leave; see stages/evaluation/tables.py."""

from __future__ import annotations

import polars as pl

PLACES = {
    "experiment": pl.String,
    "point": pl.String,
    "label": pl.String,
    "x": pl.Float64,
    "seed": pl.Int64,
    "metric": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "objects": pl.Int64,
    "protocol": pl.String,
    "steps": pl.Int64,
}
FITS = {
    "experiment": pl.String,
    "metric": pl.String,
    "slope": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "spearman": pl.Float64,
    "points": pl.Int64,
    "objects": pl.Int64,
    "seeds": pl.Int64,
}
