"""Nothing phones home: the one place where the telemetry of every library is switched off."""

from __future__ import annotations

import os

SILENT = {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
"""Dagster reads no variable; `telemetry: enabled: false` in dagster.yaml switches it off (see home.py)."""


def silence() -> None:
    """Set the variables for this process and its children; what the user set stands."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
