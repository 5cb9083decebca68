"""The one Definitions object, which workspace.yaml names. Assembly alone: it imports no torch, no mlflow and no dvc."""

from __future__ import annotations

import importlib
import pkgutil

import dagster as dg

from orchestration import assets, telemetry
from orchestration.jobs import chain, group_jobs
from orchestration.sensors import source_tables

telemetry.silence()
MODULES = [
    importlib.import_module(f"{assets.__name__}.{found.name}") for found in pkgutil.iter_modules(assets.__path__)
]

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(MODULES),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=[chain, *group_jobs()],
    sensors=[source_tables],
    executor=dg.in_process_executor,
)
