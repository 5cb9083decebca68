"""MLflow, as much of it as we use: one run per training, one model version per checkpoint."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

import dagster as dg

from orchestration import paths
from orchestration.errors import OrbitforgeError, in_plain_words, plain_errors
from orchestration.lineage.ledger import CANDIDATE
from orchestration.locks import locked
from orchestration.telemetry import silence
from orchestration.versions import environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from orchestration.resources.patient import PatientLogger

VARIABLE = "MLFLOW_TRACKING_URI"
WEB = "http://127.0.0.1:5000"
DAGSTER = os.environ.get("ORBITFORGE_DAGSTER_URL") or "http://127.0.0.1:3000"
"""Where `orbitforge ui` serves the local MLflow, and Dagster; a team names its own server for links to lead there."""
BOUNDS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""How long a server may be silent (seconds) and how often it is asked again, unless the environment says otherwise.
MLflow itself would go on for a quarter of an hour, each time."""
PLACE = "orbitforge.place"
"""The tag that says where a run is made, hashed."""
_PATIENCE = 3.0  # seconds
_BATCH = 1000  # metrics in one call, MLflow's limit
_opened: set[Path] = set()
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

Point = tuple[int, str, float]
"""Step, name and value of a metric."""
Method = TypeVar("Method", bound=Callable[..., Any])


class TrackingError(OrbitforgeError):
    """MLflow is away or answers what nobody understands. What was made is safe; the next run tells MLflow of it."""


def refusals() -> tuple[type[Exception], ...]:
    """What MLflow's client raises for a server, a database or an answer that is not as it should be."""
    from google.protobuf.json_format import ParseError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, ParseError, OSError, JSONDecodeError)


@contextmanager
def told(uri: str, what: str) -> Iterator[None]:
    """Raise TrackingError, in one line, for what `refusals` names: MLflow at `uri` does not `what`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OrbitforgeError) or not isinstance(error, refusals()):
            raise
        words = in_plain_words(error) or " ".join(str(error).split())
        shown = words if len(words) <= 300 else f"{words[:297]}..."
        raise TrackingError(
            f"MLflow at {uri} does not {what}: {shown}; see that it runs and is one, then run again: finished work is "
            "kept and told to it"
        ) from error


def _told(what: str) -> Callable[[Method], Method]:
    """For methods of Tracking that talk to MLflow."""

    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapped(self: Tracking, *arguments: Any, **named: Any) -> Any:
            with told(self.tracking_uri, what):
                return method(self, *arguments, **named)

        return cast("Method", wrapped)

    return wrap


class Tracking(dg.ConfigurableResource):
    """`uri` is a server, by default MLFLOW_TRACKING_URI, else the SQLite file `.mlflow/mlflow.db` of the project."""

    uri: str = ""

    @property
    def tracking_uri(self) -> str:
        return self.uri or os.environ.get(VARIABLE) or f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        return paths.mlflow_home() / "mlflow.db"

    @property
    def is_local(self) -> bool:
        return self.tracking_uri == f"sqlite:///{self.database}"

    def check(self) -> None:
        """Raises OrbitforgeError within seconds when MLflow cannot be reached or written. Imports no mlflow."""
        address = urlsplit(self.tracking_uri)
        if address.scheme in ("http", "https"):
            port = address.port or (443 if address.scheme == "https" else 80)
            try:
                socket.create_connection((address.hostname or "", port), timeout=_PATIENCE).close()
            except OSError as error:
                raise TrackingError(
                    f"MLflow at {self.tracking_uri} cannot be reached ({error}); start it, or unset {VARIABLE} to "
                    "write into .mlflow/"
                ) from None
        elif self.is_local:
            with plain_errors(f"opening {self.database}"):
                self.database.parent.mkdir(parents=True, exist_ok=True)
                self.database.open("ab").close()

    @_told("start a run")
    def start(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str],
        datasets: Mapping[str, str],
        run_id: str | None = None,
        place: str = "",
    ) -> str:
        """Start a run in the experiment `name`, or go on with `run_id` if MLflow still knows it.

        Of a `place` one run is open at a time: whoever was killed before he could note the id of his left it to us.

        Logs the parameters (nested names joined by dots), the facts of this machine as tags `system.*`, and the
        `datasets`: name -> DVC hash.
        """
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, Param, RunTag

        client = self.client()
        if run_id and _knows(client, run_id):
            client.update_run(run_id, status="RUNNING")
            return run_id
        experiment, here = self._experiment(client, name), hashlib.sha256(place.encode()).hexdigest()
        open_there = f"tags.`{PLACE}` = '{here}' and attributes.status = 'RUNNING'"
        run = next(iter(client.search_runs([experiment], open_there, max_results=1) if place else ()), None)
        run = run or client.create_run(
            experiment, run_name=tags.get("dvc.asset", name), tags={PLACE: here} if place else {}
        )
        if not run.info.run_id:  # what is no MLflow may answer any question with {}
            raise JSONDecodeError("no run in the answer", "", 0)
        described = {**tags, **{f"system.{key}": value for key, value in _system().items()}}
        client.log_batch(
            run.info.run_id,
            params=[Param(key, str(value)) for key, value in _flat(parameters)],
            tags=[RunTag(key, value) for key, value in described.items()],
        )
        # MLflow holds 36 characters of a digest: exactly "<md5>.dir"
        read = (
            MetaDataset(CodeDatasetSource({"dvc.md5": version}), name=asset, digest=version[:36])
            for asset, version in datasets.items()
        )
        client.log_inputs(run.info.run_id, [DatasetInput(dataset._to_mlflow_entity()) for dataset in read])
        return run.info.run_id

    @_told("start a run")
    def logger(self, run_id: str, tell: Callable[[str], None] = print) -> PatientLogger:
        """A Lightning logger that writes into the run, and goes on without MLflow where it is away; `tell` hears so."""
        from orchestration.resources.patient import PatientLogger

        self.client()
        return PatientLogger(self.tracking_uri, run_id, refusals(), tell)

    @_told("take a curve")
    def log_curve(self, run_id: str, curve: Iterable[Point]) -> None:
        """Log (step, name, value) as the metrics of a run."""
        from mlflow.entities import Metric

        client, at = self.client(), int(time.time() * 1000)
        points = [Metric(_metric_name(name), value, at, step) for step, name, value in curve]
        for start in range(0, len(points), _BATCH):
            client.log_batch(run_id, metrics=points[start : start + _BATCH])

    @_told("take a curve")
    def complete(self, run_id: str, curve: Iterable[Point]) -> None:
        """End a run that MLflow was away from: what it lacks of the curve, and that it is over. Others stay as they
        are."""
        client = self.client()
        if not _knows(client, run_id) or client.get_run(run_id).info.status == "FINISHED":
            return
        points = list(curve)
        had = {
            name: {metric.step for metric in client.get_metric_history(run_id, _metric_name(name))}
            for name in {name for _, name, _ in points}
        }
        self.log_curve(run_id, [point for point in points if point[0] not in had[point[1]]])
        self.finish(run_id)

    @_told("take pictures")
    def log_pictures(self, run_id: str, folder: Path) -> None:
        """Show the pictures and tables of a folder, where there is one, beside the run."""
        if folder.is_dir():
            self.client().log_artifacts(run_id, str(folder), "preview")

    @_told("say which versions it has")
    def known(self, name: str, md5: str) -> str | None:
        """The number of the version of model `name` with this DVC md5."""
        found = self._version(self.client(), name, md5)
        return str(found.version) if found else None

    @_told("say where an alias points")
    def alias(self, name: str, alias: str) -> str | None:
        """The number of the version of model `name` that the alias points to."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client().get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in _UNKNOWN:
                return None
            raise

    @_told("end a run")
    def finish(self, run_id: str, *, failed: bool = False) -> None:
        self.client().set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def version_url(self, name: str, version: str) -> str:
        return f"{self._web}/#/models/{name}/versions/{version}"

    @_told("show a run")
    def run_url(self, run_id: str) -> str | None:
        """None for a run that this MLflow does not know."""
        client = self.client()
        if not _knows(client, run_id):
            return None
        return f"{self._web}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"

    @property
    def _web(self) -> str:
        return self.tracking_uri.rstrip("/") if self.tracking_uri.startswith("http") else WEB

    @_told("register a model")
    def register(self, name: str, folder: Path, run_id: str | None, tags: Mapping[str, str]) -> str:
        """The number of the version of model `name` that holds `folder`, alias `candidate`.

        `tags` must hold `dvc.md5`, which is the identity: a version that has it already is used again. One process
        registers at a time: MLflow itself would take the same twice.
        """
        from mlflow.exceptions import MlflowException

        client = self.client()
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with locked(paths.work() / "mlflow.lock"):
            version = self._version(client, name, tags["dvc.md5"]) or self._new(client, name, folder, run_id, tags)
        client.set_registered_model_alias(name, CANDIDATE, version.version)
        described = _described(name, tags)
        client.update_model_version(name, version.version, described)
        if run_id and _knows(client, run_id):
            client.set_tag(run_id, "mlflow.note.content", described)
        return str(version.version)

    @_told("take figures")
    def describe(self, name: str, md5: str, run_id: str | None, figures: Mapping[str, float]) -> None:
        """Write figures to the version of model `name` that has this DVC md5, as tags, and to the run, as metrics; what
        this MLflow does not know is left out."""
        client = self.client()
        if found := self._version(client, name, md5):
            for key, value in figures.items():
                client.set_model_version_tag(name, found.version, key, f"{value:.6g}")
        if run_id and _knows(client, run_id):
            self.log_curve(run_id, [(0, key, value) for key, value in figures.items()])

    @_told("take a table")
    def log_table(self, run_id: str, text: str, name: str) -> None:
        """Show a Markdown table beside the run, in the place of an older one of that name."""
        client = self.client()
        if _knows(client, run_id):
            client.log_text(run_id, text, name)

    def promote(self, name: str, version: str, alias: str, tags: Mapping[str, str]) -> None:
        """Point the alias to the version and say on it who did so. Raises OrbitforgeError when there is no such one."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        try:
            for key, value in tags.items():
                client.set_model_version_tag(name, version, key, value)
            client.set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            raise OrbitforgeError(
                f"MLflow does not take models:/{name}/{version} as {alias}: {' '.join(str(error).split())}; if it lost "
                "what it knew, `orbitforge restore` tells it again"
            ) from None

    def _new(
        self, client: MlflowClient, name: str, folder: Path, run_id: str | None, tags: Mapping[str, str]
    ) -> ModelVersion:
        run_id = run_id if run_id and _knows(client, run_id) else None
        experiment = self._experiment(client, name)
        model = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=dict(tags))
        client.log_model_artifacts(model.model_id, str(folder))
        model = client.finalize_logged_model(model.model_id, "READY")
        if run_id:
            for key, value in tags.items():
                client.set_tag(run_id, key, value)
        return client.create_model_version(
            name, source=model.artifact_location, run_id=run_id, tags=dict(tags), model_id=model.model_id
        )

    def _version(self, client: MlflowClient, name: str, md5: str) -> ModelVersion | None:
        found = client.search_model_versions(f"name = '{name}' and tags.`dvc.md5` = '{md5}'")
        return found[0] if found else None

    def _experiment(self, client: MlflowClient, name: str) -> str:
        if found := client.get_experiment_by_name(name):
            return found.experiment_id
        # without a server, in a database of ours or of a team, MLflow would put files below the current folder
        served = self.tracking_uri.startswith(("http:", "https:", "databricks"))
        place = None if served else (paths.mlflow_home() / "artifacts" / name).as_uri()
        return client.create_experiment(name, artifact_location=place)

    def client(self) -> MlflowClient:
        """Raises as `check` does."""
        silence()
        for variable, bound in BOUNDS.items():
            os.environ.setdefault(variable, bound)
        self.check()
        import logging

        import mlflow

        # of migrations each, and of an error, which is raised as well, its traceback
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        mlflow.set_tracking_uri(self.tracking_uri)
        if self.is_local and self.database not in _opened:
            with locked(paths.work() / "mlflow.lock"):  # two that make its tables, or its first rows, at once fail
                if not self.database.stat().st_size:
                    _make_tables(self.database)
                mlflow.MlflowClient(self.tracking_uri).search_experiments(max_results=1)
            _opened.add(self.database)
        return mlflow.MlflowClient(self.tracking_uri)


def _make_tables(database: Path) -> None:
    """All or none: MLflow makes them one by one, and cannot go on with those of a process that was killed."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine  # pyright: ignore

    begun = database.with_name(f"{database.name}.begun")
    for left in database.parent.glob(f"{begun.name}*"):
        left.unlink()
    engine = create_sqlalchemy_engine(f"sqlite:///{begun}")
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    begun.replace(database)


def _described(name: str, tags: Mapping[str, str]) -> str:
    """Back from MLflow to Dagster and the ledger, as Markdown that MLflow shows beside version and run."""
    asset, run, row = name.rpartition("-")[2], tags.get("dagster.run_id"), tags.get("ledger.row", "")
    links = [f"[Dagster run]({DAGSTER}/runs/{run})"] if run else []
    links.append(f"[asset {asset}]({DAGSTER}/assets/{asset})")
    return (
        f"{', '.join(links)}\n\ndata version `{tags['dvc.md5']}`, ledger row `{row}`: `orbitforge lineage {row[:12]}`"
    )


def _knows(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return False
        raise  # it may well know it, and only does not answer


def _metric_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs."""
    return re.sub(r"[^\w\-./: ]", "_", name)


def _system() -> dict[str, str]:
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    return {**environment(), "host": platform.node(), "cpus": str(os.cpu_count()), "memory_gib": f"{memory:.1f}"}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        flat += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return flat
