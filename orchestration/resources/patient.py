"""A Lightning logger that lets a training go on while MLflow is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger

DEAF, SHARE = 30.0, 20.0
"""After a failure MLflow is left alone for so many seconds, or so many times as long as the failure took, if that is
more: what does not answer costs a training a twentieth of its time at most."""

Point = tuple[int, str, float]


class PatientLogger(MLFlowLogger):
    """Writes metrics into a run. What MLflow does not take is kept in `left` for the end; `tell` hears of it once."""

    def __init__(
        self, uri: str, run_id: str, refusals: tuple[type[Exception], ...], tell: Callable[[str], None]
    ) -> None:
        super().__init__(tracking_uri=uri, run_id=run_id)
        self._initialized = True  # the run is there: nobody has to be asked for it
        self._refusals, self._tell = refusals, tell
        self._deaf_until = 0.0
        self.left: list[Point] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        began = time.monotonic()
        if began >= self._deaf_until:
            try:
                return super().log_metrics(metrics, step)
            except self._refusals as error:
                if not self.left:
                    self._tell(f"MLflow does not take the curve ({_brief(error)}); the training goes on without it")
                now = time.monotonic()
                self._deaf_until = now + max(DEAF, SHARE * (now - began))
        self.left += ((step or 0, name, float(value)) for name, value in metrics.items())

    def log_hyperparams(self, params: Any) -> None:
        try:
            super().log_hyperparams(params)
        except self._refusals as error:  # what decides the bytes was told when the run began
            self._tell(f"MLflow does not take the hyperparameters ({_brief(error)}); the training goes on")

    def finalize(self, status: str = "success") -> None:
        """Who started the run ends it."""


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
