"""`orbitforge render` and `import`, as people use them."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path

import polars as pl
import pytest
import trimesh
from typer.testing import Result

from orchestration.cli import render as command
from stages.objects.config import SourceConfig
from stages.objects.sources import OBJECTS, PROMPTS, read_table
from stages.shards import read_shard
from tests.orchestration.test_cli import invoke


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    for number in range(3):
        trimesh.creation.box((1, 2, 3 + number)).export(folder / "deep" / "er" / f"box{number}.glb")
    trimesh.creation.icosphere(2).export(folder / "ball.stl")
    (folder / "broken.obj").write_text("v 0 0 0\n")
    return folder


def render(meshes: Path, output: Path, *more: object) -> Result:
    return invoke("render", meshes, "-o", output, "--size", 16, "--views", 4, "--shard-size", 2, "--workers", 1, *more)


def hashes(output: Path) -> dict[str, str]:
    return {
        path.relative_to(output).as_posix(): md5(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def test_json_tells_of_every_file_and_nothing_else(meshes: Path, tmp_path: Path) -> None:
    result = render(meshes, tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["rendered"], told["quarantined"]) == (4, 1)
    assert [each["file"] for each in told["objects"]] == [
        "ball.stl", "broken.obj", "deep/er/box0.glb", "deep/er/box1.glb", "deep/er/box2.glb"
    ]  # fmt: skip
    assert told["objects"][0] == {"file": "ball.stl", "status": "rendered", "reason": None}
    assert told["objects"][1]["status"] == "quarantined"
    assert told["objects"][1]["reason"].startswith("no faces: ")
    shards = sorted((tmp_path / "out" / "shards").iterdir())
    assert [folder.name for folder in shards] == ["000", "001", "002"]
    samples = [sample for folder in shards for sample in read_shard(folder / "views.tar")]
    assert {sample.views.shape for sample in samples} == {(4, 16, 16, 4)}
    assert len(samples) == 4
    assert all((folder / "overview.png").is_file() for folder in shards)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["reasons"] == {"no faces": 1}
    assert not list((tmp_path / "out").glob(".*"))


def test_the_same_bytes_by_two_workers_and_after_a_kill(
    meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert render(meshes, tmp_path / "one").exit_code == 0
    two = invoke(
        "render", meshes, "-o", tmp_path / "two", "--size", 16, "--views", 4, "--shard-size", 2, "--workers", 2
    )
    assert two.exit_code == 0, two.stderr
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")

    def killed(job, report):
        if job.shard == "001":
            raise KeyboardInterrupt
        render_job(job, report)

    render_job = command.render_job
    monkeypatch.setattr(command, "render_job", killed)
    assert render(meshes, tmp_path / "three").exit_code != 0
    assert [path.name for path in (tmp_path / "three" / "shards").iterdir()] == ["000"]
    made: list[str] = []
    monkeypatch.setattr(command, "render_job", lambda job, report: (made.append(job.shard), render_job(job, report)))
    assert render(meshes, tmp_path / "three").exit_code == 0
    assert made == ["001", "002"]
    assert hashes(tmp_path / "one") == hashes(tmp_path / "three")


def test_new_objects_fill_new_shards_and_finished_ones_stay(
    meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert render(meshes, out).exit_code == 0
    before = hashes(out / "shards")
    trimesh.creation.torus(1, 0.3).export(meshes / "a-new-one.ply")
    assert render(meshes, out).exit_code == 0
    after = hashes(out / "shards")
    assert before.items() <= after.items()
    assert {path.partition("/")[0] for path in after.keys() - before.keys()} == {"003"}
    # a changed object makes its own shard anew, other settings make all, an object that went takes its row along
    made: list[str] = []
    render_job = command.render_job
    monkeypatch.setattr(command, "render_job", lambda job, report: (made.append(job.shard), render_job(job, report)))
    trimesh.creation.box((5, 1, 1)).export(meshes / "ball.stl")
    assert render(meshes, out).exit_code == 0
    assert len(made) == 1
    assert render(meshes, out, "--seed", 1).exit_code == 0
    assert len(made) == 5
    (meshes / "a-new-one.ply").unlink()
    assert render(meshes, out, "--seed", 1).exit_code == 0
    assert sorted(path.name for path in (out / "shards").iterdir()) == ["000", "001", "002"]


def test_licences_are_filtered_by_the_table(meshes: Path, tmp_path: Path) -> None:
    (meshes / "objects.csv").write_text("file,licence\nball.stl,CC0\ndeep/er/box0.glb,CC-BY-NC-4.0\n")
    told = json.loads(render(meshes, tmp_path / "out", "--json", "--licence", "CC0-*").stdout)
    reasons = {each["file"]: each["reason"] for each in told["objects"]}
    assert reasons["ball.stl"] is None
    assert reasons["deep/er/box0.glb"] == "licence not allowed: CC-BY-NC-4.0"
    assert reasons["deep/er/box1.glb"] == "licence not allowed: unknown"


@pytest.mark.parametrize("arguments", [("absent",), (".",)])
def test_nothing_to_render_is_one_line(arguments: tuple[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    result = invoke("render", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1


def test_an_import_is_a_source_that_a_preset_can_name(meshes: Path, tmp_path: Path) -> None:
    result = invoke("import", meshes, "-o", tmp_path / "data" / "mine")
    assert result.exit_code == 0, result.stderr
    assert "quarantined 1: no faces" in result.stderr
    source = SourceConfig.model_validate({"folder": "mine"})
    objects, prompts = (read_table(tmp_path / "data", source, name) for name in (OBJECTS, PROMPTS))
    assert len(objects) == 4
    assert set(prompts["object"]) <= set(objects.filter(pl.col("split") == "train")["id"])
    assert all((tmp_path / "data" / "mine" / file).is_file() for file in objects["file"])


def test_an_import_of_nothing_good_fails(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.glb").write_text("no mesh")
    result = invoke("import", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "nothing was taken in" in result.stderr


def test_what_a_limit_stopped_is_tried_again_with_another(
    meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert render(meshes, out).exit_code == 0
    shard = next(folder for folder in (out / "shards").iterdir() if not len(read_broken(folder)))
    stopped = pl.DataFrame({"id": ["box"], "reason": ["too slow"], "error": ["more than 60 s"]})
    stopped.write_parquet(shard / "quarantine.parquet")
    made: list[str] = []
    render_job = command.render_job
    monkeypatch.setattr(command, "render_job", lambda job, report: (made.append(job.shard), render_job(job, report)))
    assert render(meshes, out).exit_code == 0
    assert made == []
    assert render(meshes, out, "--seconds", 90).exit_code == 0
    assert made == [shard.name]


def read_broken(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "quarantine.parquet")


def test_folders_that_come_together_keep_their_files_apart(meshes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    trimesh.creation.torus(1, 0.3).export(other / "ball.stl")
    result = invoke("render", meshes, other, "-o", tmp_path / "out", "--size", 16, "--views", 2, "--json")
    told = json.loads(result.stdout)
    assert (told["rendered"], told["quarantined"]) == (5, 1)
    assert {"in/ball.stl", "other/ball.stl"} <= {each["file"] for each in told["objects"]}
    # and one folder alone is the same wherever it lies
    moved = meshes.rename(tmp_path / "moved")
    assert render(moved, tmp_path / "here").exit_code == 0
    there = (moved.rename(tmp_path / "else"), tmp_path / "there")
    assert render(*there).exit_code == 0
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
