"""MLflow, as much of it as we use: one run per training, one model version per checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg


class Tracking(dg.ConfigurableResource):
    """`uri` is the server (`MLFLOW_TRACKING_URI`), or empty for the SQLite file `.mlflow/mlflow.db`."""

    uri: str = ""

    @property
    def tracking_uri(self) -> str:
        raise NotImplementedError

    def check(self) -> None:
        """Raises OrbitforgeError within seconds when MLflow cannot be reached or written. Imports no mlflow."""
        raise NotImplementedError

    def start(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        datasets: Mapping[str, str],
        run_id: str | None = None,
    ) -> str:
        """Start a run in the experiment `name`, or go on with `run_id`. `datasets` maps names to DVC hashes."""
        raise NotImplementedError

    def logger(self, run_id: str) -> Any:
        """A Lightning logger that writes into the run."""
        raise NotImplementedError

    def finish(self, run_id: str, *, failed: bool = False) -> None:
        raise NotImplementedError

    def register(self, name: str, folder: Path, run_id: str | None, tags: Mapping[str, str]) -> str:
        """The number of the version of model `name` that holds `folder`, alias `candidate`.

        Idempotent: a version with the same tag `dvc.md5` is used again.
        """
        raise NotImplementedError
