from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestration.world import World, build, forget_toys


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield build(tmp_path, monkeypatch)
    forget_toys()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which commands are called in."""
    shutil.copy(Path(__file__).parents[2] / "workspace.yaml", tmp_path)
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")  # what commands set is undone after the test
    monkeypatch.chdir(tmp_path)
    return tmp_path
