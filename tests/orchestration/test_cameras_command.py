"""`orbitforge validate` tells shards whose cameras are right from others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.camera import Camera
from orchestration.cli.cameras import validate_command
from orchestration.errors import OrbitforgeError
from stages.shards import Sample, write_shard


def disc(shift: int) -> np.ndarray:
    """Views of a small ball, `shift` pixels right of the middle."""
    y, x = np.mgrid[0:32, 0:32] + 0.5
    inside = (x - 16 - shift) ** 2 + (y - 16) ** 2 < 9
    return np.repeat(np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(4, -1)[None], 4, 0)


def write(folder: Path, name: str, shift: int) -> None:
    (folder / name).mkdir()
    meta = {"cameras": Camera.orbit(4, 0.0).numbers().tolist(), "elevation": 0.0}
    write_shard(folder / name / "views.tar", [Sample("ball", disc(shift), meta)])


def test_right_and_wrong_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "000", 0)
    validate_command(tmp_path, every=1, as_json=False)
    assert capsys.readouterr().out == "1 samples of 1 shards looked at, 0 problems\n"
    write(tmp_path, "001", 9)  # a ball beside the axis cannot stand right of the middle in all views
    with pytest.raises(OrbitforgeError, match="1 of 2 samples do not fit their views"):
        validate_command(tmp_path, every=1, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 2
    assert {problem["shard"] for problem in told["problems"]} == {str(tmp_path / "001" / "views.tar")}


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrbitforgeError, match=r"holds no views\.tar"):
        validate_command(tmp_path, every=1, as_json=False)
