from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import MADE, PUBLISHED, Ledger, Row
from orchestration.resources.tracking import Tracking
from tests.orchestration.world import MODEL, build


def test_an_mlflow_that_cannot_be_reached_is_told_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Tracking().check()
    assert Tracking().tracking_uri == f"sqlite:///{tmp_path}/.mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(OrbitforgeError, match=r"http://127\.0\.0\.1:9 cannot be reached .* unset MLFLOW_TRACKING_URI"):
        Tracking().check()
    assert time.monotonic() - began < 5
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / ".mlflow" / "mlflow.db").unlink()
    (tmp_path / ".mlflow").rmdir()
    (tmp_path / ".mlflow").write_text("a file")
    with pytest.raises(OrbitforgeError, match=r"\.mlflow: a file stands where a folder belongs"):
        Tracking().check()


def test_tables_that_a_kill_left_half_made_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mlflow.store.db import utils

    def killed(engine: Any) -> None:
        with engine.begin() as connection:  # one of those that its migrations make
            connection.exec_driver_sql("create table trace_info (request_id text)")
        raise KeyboardInterrupt

    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", killed)
        with pytest.raises(KeyboardInterrupt):
            Tracking().client()
    assert len(Tracking().client().search_experiments()) == 1
    assert [path.name for path in (tmp_path / ".mlflow").iterdir()] == ["mlflow.db"]


def test_a_training_is_tracked_and_its_model_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One test for the whole way, because importing MLflow and Lightning takes most of its time."""
    from mlflow import MlflowClient, artifacts

    world = build(tmp_path, monkeypatch, model=MODEL)
    world.make("views", "manifest", "model")
    client = MlflowClient(Tracking().tracking_uri)
    rows = [Row.of(record) for record in Ledger().read().to_dicts()]
    (made,) = [row for row in rows if row.kind == MADE and row.asset == "model"]
    (told,) = [row for row in rows if row.kind == PUBLISHED]
    assert (told.about, told.reference) == (made.id, "models:/toy-model/1")

    version = client.get_model_version_by_alias("toy-model", "candidate")
    tags = {
        "dagster.run_id": "run-1",
        "dvc.md5": made.version,
        "code_version": made.code,
        "config_hash": made.config_hash,
        "ledger.row": made.id,
    }
    assert version.tags == tags
    assert version.run_id == made.mlflow_run
    folder = Path(artifacts.download_artifacts("models:/toy-model@candidate", dst_path=str(tmp_path / "model")))
    assert (folder / "weights").read_bytes() == (world.data / "toy" / "model" / "weights").read_bytes()

    run = client.get_run(str(made.mlflow_run))
    assert run.info.status == "FINISHED"
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["system.python"]
    assert run.data.params == {"seed": "0", "rendering.size": "512"}
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert run.data.metrics["precision"] == 0.9  # what the stage reported at its end
    assert [file.path for file in client.list_artifacts(run.info.run_id, "preview")] == ["preview/rates.md"]
    (data,) = run.inputs.dataset_inputs  # pyright: ignore[reportOptionalMemberAccess]
    assert (data.dataset.name, data.dataset.digest) == ("manifest", world.status()["manifest"].version)
    assert str(tmp_path) in client.get_experiment(run.info.experiment_id).artifact_location

    # told twice, it is one version; a killed training goes on in the run it had
    assert Tracking().register("toy-model", world.data / "toy" / "model", made.mlflow_run, tags) == "1"
    assert Tracking().start("toy-model", parameters={}, tags={}, datasets={}, run_id=made.mlflow_run) == made.mlflow_run
    assert Tracking().start("toy-model", parameters={}, tags={}, datasets={}, run_id="forgotten") != made.mlflow_run
    Tracking().finish(str(made.mlflow_run), failed=True)
    assert client.get_run(str(made.mlflow_run)).info.status == "FAILED"

    # nobody noted the run of a training that was killed as it began: the next one in its place takes it
    def start(place: str) -> str:
        return Tracking().start("toy-model", parameters={"a": 1}, tags={}, datasets={"views": "1"}, place=place)

    left = start("it's here")
    assert start("there") != left
    assert start("it's here") == left
    Tracking().finish(left)
    assert start("it's here") != left
