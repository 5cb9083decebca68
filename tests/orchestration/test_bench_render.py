"""The render bench: rows have the targets that were promised, and a peer that is absent is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.camera import Camera
from orchestration.cli.bench import render


def result(seconds: float, shade: int = 100) -> render.Result:
    image = np.full((1, 4, 4, 4), shade, dtype=np.uint8)
    image[..., 3] = 255
    return render.Result({"a": seconds, "b": seconds}, seconds, {"a": image, "b": image})


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch):
    """The rows of a bench in which each child finds what the test says."""

    def measured(**found: render.Result | None) -> dict[str, render.Row]:
        monkeypatch.setattr(render, "fetch_sample", lambda console: None)
        monkeypatch.setattr(render, "_write_scenes", lambda root: None)
        monkeypatch.setattr(render, "_together", lambda root, report: 1.8)
        monkeypatch.setattr(render, "_run", lambda name, root, report: found.get(name))
        return {row.work: row for row in render.measure(lambda line: None)}

    return measured


def test_rows_have_the_targets_that_were_promised(rows) -> None:
    found = rows(ours=result(1.0), cycles=result(25.0), opengl=result(1.4, 103), rays=result(0.0))
    met = {work: row.as_json()["met"] for work, row in found.items() if row.target is not None}
    assert met == {
        "all beside Blender Cycles, 16 samples": True,
        "all beside OpenGL by moderngl on EGL, 4 samples": False,
        "two processes beside one": True,
        "two runs, bytes that differ": True,
        "alpha beside embree, pixels that differ": True,
        "colours beside OpenGL, worst object": True,
    }
    assert found["all beside Blender Cycles, 16 samples"].as_json()["ratio"] == pytest.approx(25)


def test_without_peers_there_are_no_targets_beside_them(rows) -> None:
    found = rows(ours=result(1.0))
    assert {work for work, row in found.items() if row.target is not None} == {
        "two processes beside one",
        "two runs, bytes that differ",
    }


def test_an_absent_peer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(render.CONFIG.model_dump_json())
    np.save(tmp_path / "cameras.npy", Camera.orbit(2, 0).numbers().numpy())
    lines: list[str] = []
    assert render._run("nowhere", tmp_path, lines.append) is None
    assert len(lines) == 1
    assert lines[0].startswith("nowhere: not measured: ModuleNotFoundError")
