"""An MLflow that is gone, silent or answers garbage: nothing made is lost, and it is told later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.survival.mlflows import BROKEN, FINE, HTML, MOODS, NONSENSE, STALLED, Server, server
from tests.survival.toys import Toys

MOODY = """
        if step == 1 and os.environ.get("TOY_MOOD"):
            Path(os.environ["TOY_MOOD_FILE"]).write_text(os.environ["TOY_MOOD"])
        count.write_text(str(step + 1))"""
CURVE = """
    steps = [{"step": n, "name": "loss", "value": 1.0 / (n + 1)} for n in range(3)]
    pl.DataFrame(steps).write_parquet(work.output / "training.parquet")
    texts = [p.read_text() for p in sorted(work.inputs["views"]"""


LONG = os.environ.get("ORBITFORGE_SURVIVAL") == "long"
"""All moods take minutes."""


def at(mlflow: Server, mood: str = FINE) -> dict[str, str]:
    silent = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    return {"MLFLOW_TRACKING_URI": mlflow.uri, **(silent if mood == STALLED else {})}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from mlflow import MlflowClient

    with server(tmp_path_factory.mktemp("mlflow") / "server") as running:
        MlflowClient(running.uri).search_experiments()  # makes its database
        yield running


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow: Server) -> Toys:
    (tmp_path / "project").mkdir()
    toys = Toys(tmp_path / "project", monkeypatch)
    toys.world.edit("toy.makes", "\n        count.write_text(str(step + 1))", MOODY)
    toys.world.edit("toy.makes", '\n    texts = [p.read_text() for p in sorted(work.inputs["views"]', CURVE)
    mlflow.be(FINE)
    return toys


@pytest.mark.parametrize("mood", MOODS if LONG else [BROKEN, NONSENSE])
def test_a_run_does_not_begin_a_training_that_nobody_would_hear_of(toys: Toys, mlflow: Server, mood: str):
    mlflow.be(mood)
    told = toys.call("run", environment=at(mlflow, mood))
    assert told.code == 1
    assert told.error.startswith(f"error: model failed: MLflow at {mlflow.uri} does not start a run"), told.text
    assert "run again: finished work is kept" in told.error
    assert "Traceback" not in told.text
    assert set(toys.made()) == {"toy/views/000", "toy/views/001", "toy/manifest"}


@pytest.mark.parametrize("mood", MOODS if LONG else [HTML])
def test_a_training_goes_on_without_mlflow_which_is_told_later(toys: Toys, mlflow: Server, mood: str):
    from mlflow import MlflowClient

    away = {"TOY_MOOD": mood, "TOY_MOOD_FILE": str(mlflow.mood)}
    told = toys.call("run", environment=at(mlflow, mood) | away)
    assert told.code == 0, told.text
    assert "model is made, but MLflow did not take it: the next run tells it" in told.text
    assert "Traceback" not in told.text
    made = toys.made()
    assert set(made) >= {"toy/model", "toy/clips/001"}  # what reads the model was made as well

    still = toys.call("run", environment=at(mlflow, mood))  # it is still away: no error
    assert still.code == 0, still.text
    assert "model is not in MLflow yet: MLflow at" in still.text

    mlflow.be(FINE)
    told = toys.call("run", environment=at(mlflow))
    assert told.code == 0, told.text
    assert "model was not in MLflow: registered as models:/toy-model/" in told.text
    client = MlflowClient(mlflow.uri)
    version = client.get_model_version_by_alias("toy-model", "candidate")
    assert version.tags["dvc.md5"] == made["toy/model"]
    run = client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((each.step, each.value) for each in history) == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert toys.made() == made
    again = toys.call("run", environment=at(mlflow))
    assert "put right" not in again.text
    audited = toys.call("audit", environment=at(mlflow))
    assert audited.code == 0, audited.text
    client.delete_registered_model("toy-model")  # the next project, of another mood, has one of that name


def test_a_server_that_is_gone_is_told_at_once(toys: Toys):
    told = toys.call("run", environment={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert told.code == 1
    assert "http://127.0.0.1:9 cannot be reached" in told.error
    assert "unset MLFLOW_TRACKING_URI" in told.error
    assert toys.made() == {}


def test_what_does_not_answer_costs_a_training_a_twentieth(monkeypatch: pytest.MonkeyPatch, mlflow: Server):
    from orchestration.resources import patient

    clock = [0.0]
    monkeypatch.setattr(patient.time, "monotonic", lambda: clock[0])

    def stall(*_: object) -> None:
        clock[0] += 90.0
        raise OSError("timed out")

    monkeypatch.setattr(patient.MLFlowLogger, "log_metrics", stall)
    told: list[str] = []
    logger = patient.PatientLogger(mlflow.uri, "run", (OSError,), told.append)
    for step in range(36_000):
        logger.log_metrics({"loss": 0.5}, step)
        clock[0] += 1.0
    assert clock[0] / 36_000 < 1.06
    assert len(logger.left) == 36_000
    assert len(told) == 1
