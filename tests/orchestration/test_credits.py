"""The model that ships: what uses it, and whom it owes."""

from pathlib import Path

import pytest

from orchestration import paths
from orchestration.cli import checkpoint
from orchestration.cli.credits import credits_of
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import load_preset
from orchestration.shipping import EXAMPLE


def put_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    (tmp_path / "workspace.yaml").touch()
    return paths.data()


def test_the_shipped_model_stands_in_until_there_is_an_own_one(data: Path):
    tiny = load_preset("tiny")
    with pytest.raises(OrbitforgeError, match="make one with `orbitforge run --preset tiny`"):
        checkpoint.checkpoint_path(tiny, None)
    shipped = put_model(data / EXAMPLE)
    assert checkpoint.checkpoint_path(tiny, None) == shipped
    own = put_model(data / "tiny" / "lrm_finetuned")
    assert checkpoint.checkpoint_path(tiny, None) == own


def test_makers_are_credited_where_their_licence_asks_for_it(sample_data: Path):
    (line,) = credits_of(sample_data / EXAMPLE)
    licence, _, makers = line.partition(": 88 objects by ")
    assert licence == "CC-BY-3.0"
    assert {"Blenderik", "Scopia & eTeks"} <= set(makers.split(", "))


def test_a_model_of_nobody_known_owes_nothing(data: Path, tmp_path: Path):
    assert credits_of(tmp_path / "elsewhere") == []
    assert credits_of(data / "tiny" / "lrm_finetuned") == []
