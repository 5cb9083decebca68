"""The one Definitions object, which workspace.yaml names. Assembly alone: it imports no torch, no mlflow and no dvc."""

from __future__ import annotations

import importlib
import pkgutil

import dagster as dg

from orchestration import assets, telemetry
from orchestration.assets.freshness import checks
from orchestration.jobs import chain, group_jobs
from orchestration.sensors import new_data, source_tables, staleness

telemetry.silence()
MODULES = [
    importlib.import_module(f"{assets.__name__}.{found.name}") for found in pkgutil.iter_modules(assets.__path__)
]

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(MODULES),
    asset_checks=[*dg.load_asset_checks_from_modules(MODULES), *checks()],
    jobs=[chain, *group_jobs()],
    sensors=[source_tables, staleness, new_data],
    executor=dg.in_process_executor,
)
