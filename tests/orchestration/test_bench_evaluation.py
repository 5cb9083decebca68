"""The bench over seeds: means over objects, then over seeds, ready for JSON."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from orchestration.cli.bench import evaluation
from orchestration.errors import OrbitforgeError

METHODS = ("lrm_finetuned", "lrm_pretrained", "mean image", "copy of the input")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three seeds of a finished project; what the bench says meanwhile."""
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    home = tmp_path / "data" / "tiny" / "lrm_finetuned"
    home.mkdir(parents=True)
    table(0.0).write_parquet(home / "metrics.parquet")
    monkeypatch.setattr(evaluation, "held_out_table", lambda *_: table(0.0))
    monkeypatch.setattr(evaluation, "_trained", lambda home, seed, folder, report: table(6.0 * seed))
    return []


def table(better: float) -> pl.DataFrame:
    rows = [
        {
            "method": method,
            "id": f"{name}-0-{orbit}",
            "object": name,
            "psnr": 0.0,
            "foreground_psnr": value,
            "iou": 0.5,
            "feature_distance": 0.25,
            "chamfer": 0.1 if "lrm" in method else None,
            "f_score": 0.4 if "lrm" in method else None,
        }
        for number, method in enumerate(METHODS)
        for name, orbit, value in (("a", 0, 9.0), ("a", 1, 11.0), ("b", 0, 20.0 + better * (number == 0)))
    ]
    return pl.DataFrame(rows)


def test_without_a_chain_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    with pytest.raises(OrbitforgeError, match=r"metrics\.parquet is missing"):
        evaluation.measure(print)


def test_the_table_has_a_row_a_method_and_a_column_a_figure(told: list[str]) -> None:
    evaluation.measure(told.append)
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told[-1].splitlines()]
    assert head == ["", "foreground_psnr", "iou", "feature_distance", "chamfer", "f_score"]
    assert [row[0] for row in rows] == list(METHODS)
    assert rows[0][1:] == ["18 ± 3", "0.5 ± 0", "0.25 ± 0", "0.1 ± 0", "0.4 ± 0"]
    assert rows[2][-2:] == ["", ""]


def test_every_object_and_every_seed_counts_once(told: list[str]) -> None:
    rows = json.loads(json.dumps([row.as_json() for row in evaluation.measure(told.append)]))
    first = rows[0]
    assert first["work"] == "lrm_finetuned: foreground_psnr"
    assert first["ours"] == pytest.approx(15 + (0 + 3 + 6) / 3)
    assert first["max_diff"] == pytest.approx(3)
    assert first["target"] == pytest.approx(15 + 4)
    assert first["met"] is False
    by_work = {row["work"]: row for row in rows}
    assert by_work["lrm_pretrained: f_score"]["ours"] == pytest.approx(0.4)
    assert by_work["copy of the input: iou"]["ours"] == pytest.approx(0.5)
    assert "mean image: chamfer" not in by_work
