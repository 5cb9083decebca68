"""The columns of what an evaluation leaves, without anything that takes long to import: readers need no torch."""

from __future__ import annotations

import polars as pl

TABLE = {
    "model": pl.String,
    "object": pl.String,
    "id": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "reason": pl.String,
}
MEANS = {
    "model": pl.String,
    "metric": pl.String,
    "unit": pl.String,
    "high_is_good": pl.Boolean,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "objects": pl.Int64,
    "failed": pl.Int64,
    "protocol": pl.String,
}
COMPARISONS = {
    "model": pl.String,
    "against": pl.String,
    "metric": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "probability": pl.Float64,
    "objects": pl.Int64,
    "protocol": pl.String,
}
