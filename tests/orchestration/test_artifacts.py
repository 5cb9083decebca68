from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration import artifacts, tasks
from orchestration.adopt import adopt
from orchestration.errors import MachineError, OrbitforgeError
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, OBSERVED, RECALLED, Ledger, Row
from orchestration.lineage.meanwhile import Meanwhile
from orchestration.lineage.reconcile import reconcile
from orchestration.resources import store
from orchestration.steps import Work
from orchestration.tasks import perform, plan
from orchestration.versions import asset_seed, data_version, environment
from tests.orchestration.world import MODEL, World, build, make_of

CHAIN = ("views", "manifest", "model", "clips")


def made(world: World, asset: str) -> list[Row]:
    rows = Ledger().read().filter((pl.col("kind") == MADE) & (pl.col("asset") == asset))
    return [Row.of(record) for record in rows.to_dicts()]


def test_the_chain_becomes_real_and_a_second_run_makes_nothing(world: World):
    events = world.make(*CHAIN)
    assert world.calls() == ["views 000", "views 001", "manifest None", "model None", "clips 000", "clips 001"]
    assert [event.partition for event in events] == ["000", "001", None, None, "000", "001"]
    assert json.loads((world.data / "toy/manifest/manifest.json").read_text()) == {
        "000": {"ape.txt": "ape mesh of ape 16", "bee.txt": "bee mesh of bee 16"},
        "001": {"cow.txt": "cow mesh of cow 16"},
    }
    weights = (world.data / "toy" / "model" / "weights").read_text()  # got the views that the manifest stands for
    assert weights == f"ape mesh of ape 16|bee mesh of bee 16|cow mesh of cow 16 seed {asset_seed(0, 'model')}"
    assert (world.data / "toy/clips/001/clips.txt").read_text() == "ape mblue"
    assert set(world.states().values()) == {"fresh"}
    assert world.make(*CHAIN) == []
    assert world.calls() == []
    assert not list((world.root / ".work" / "views").glob("*/*"))


def test_a_row_says_what_was_made_of_what(world: World):
    world.make(*CHAIN)
    views, (manifest,), (model,) = (made(world, name) for name in ("views", "manifest", "model"))
    assert [input_.row for input_ in manifest.inputs] == [row.id for row in views]
    assert [input_.row for input_ in model.inputs] == [manifest.id]
    assert model.version == data_version(world.data / "toy" / "model")
    assert model.config == {"seed": 0, "rendering.size": 512}
    assert model.seed == asset_seed(0, "model")
    assert set(views[0].code_modules) == {"toy.stage", "toy.helper"}
    assert views[0].metrics == {"objects": 1.0}
    assert views[0].dagster_run == "run-1"
    assert views[0].bytes == sum(file.size for file in views[0].files)
    observed = Ledger().read().filter(pl.col("kind") == OBSERVED)
    (source,) = [Row.of(r) for r in observed.to_dicts() if r["id"] == views[0].inputs[0].row]
    assert [file.path for file in source.files] == ["meshes/ape.glb", "meshes/bee.glb", "objects.parquet"]


def test_two_worlds_give_the_same_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = build(tmp_path / "one", monkeypatch)
    first.make("views", "manifest", "model")
    versions = {name: each.version for name, each in first.status().items()}
    second = build(tmp_path / "two", monkeypatch)
    monkeypatch.setenv("ORBITFORGE_WORKERS", "2")  # in processes of their own
    second.make("views", "manifest", "model")
    assert {name: each.version for name, each in second.status().items()} == versions


def test_only_what_changed_is_made_again(world: World):
    world.make(*CHAIN)
    world.calls()
    world.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    world.make("views")
    assert world.calls() == ["views 002"]
    world.edit("toy.stage", "one line for each", "a line for each")  # a comment
    assert world.states()["views"] == "fresh"
    world.edit("toy.stage", "name, mesh.decode()", "mesh.decode(), name")
    world.make("views", shards=["001"])
    assert world.calls() == ["views 001"]
    assert world.status()["views"].as_json()["shards"] == {
        "total": 3,
        "fresh": 1,
        "stale": 2,
        "missing": 0,
        "failed": 0,
    }


def test_what_comes_back_is_recalled_not_made(world: World):
    world.make(*CHAIN)
    before = world.status()["clips"].version
    world.configure(rendering={"views": 9})
    world.make(*CHAIN)
    assert world.status()["clips"].version == before  # as in the toy
    world.calls()
    world.configure(rendering={"views": 16})
    events = world.make(*CHAIN)
    assert world.calls() == []
    assert {event.asset_key.to_user_string() for event in events} >= {"views", "model"}
    assert (world.data / "toy/views/001/cow.txt").read_text() == "cow mesh of cow 16"
    assert Ledger().read().filter(pl.col("kind") == RECALLED).height >= 3
    assert set(world.states().values()) == {"fresh"}
    assert world.make(*CHAIN) == []


def test_a_failing_shard_leaves_its_neighbours_alone(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOY_FAIL", "views:000")
    monkeypatch.setenv("ORBITFORGE_WORKERS", "2")
    with pytest.raises(OrbitforgeError, match="1 shards of views failed: 000: views cannot make 000") as told:
        world.make("views")
    assert isinstance(told.value.__cause__, ValueError)
    state = world.status()["views"]
    assert state.status == "failed"
    assert {shard.shard: shard.status for shard in state.shards} == {"000": "failed", "001": "fresh"}
    assert state.why == ["failed: views cannot make 000 (1 of 2 shards)"]
    assert "toy/views/001" in str(sorted(world.data.rglob("cow.txt")))
    assert (world.root / "data.dvc").exists()  # what was done is published
    monkeypatch.delenv("TOY_FAIL")
    world.calls()
    world.make("views")
    assert world.calls() == ["views 000"]
    assert world.states()["views"] == "fresh"


def test_a_failure_holds_for_what_failed_only(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOY_FAIL", "views:000")
    with pytest.raises(OrbitforgeError):
        world.make("views")
    world.edit("toy.stage", "name, mesh.decode()", "mesh.decode(), name")
    assert {shard.shard: shard.status for shard in world.status()["views"].shards} == {"000": "missing", "001": "stale"}


def test_code_edited_while_a_stage_runs_records_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    from toy import makes  # pyright: ignore[reportMissingImports]

    def edits(work: Work) -> None:
        (world.root / "src" / "toy" / "helper.py").write_text("x = 1")
        (work.output / "manifest.json").write_text("{}")

    world.make("views")
    monkeypatch.setattr(makes, "manifest", edits)
    with pytest.raises(OrbitforgeError, match=r"toy\.helper was edited meanwhile; nothing was recorded"):
        world.make("manifest")
    assert made(world, "manifest") == []
    assert not (world.data / "toy" / "manifest").exists()


def test_code_edited_after_it_was_loaded_is_refused(world: World):
    world.make("views")
    helper = world.root / "src" / "toy" / "helper.py"
    helper.write_text(helper.read_text().replace('" "', '"_"'))
    with pytest.raises(OrbitforgeError, match=r"toy\.helper was edited since this process loaded it"):
        world.make("views")


def test_what_is_not_there_yet_is_named(world: World):
    with pytest.raises(OrbitforgeError, match=r"model reads manifest, which does not exist yet"):
        world.make("model")
    with pytest.raises(OrbitforgeError, match=r"views\[007\] reads source_objects\[007\]"):
        world.make("views", shards=["007"])
    (world.data / "source" / "meshes" / "cow.glb").write_text("not a cow")
    with pytest.raises(OrbitforgeError, match=r"001: .*cow\.glb has md5"):
        world.make("views")
    assert [shard.status for shard in world.status()["views"].shards] == ["fresh", "missing"]


def test_a_full_disk_leaves_nothing_half_written(world: World, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights")

    def full_in_rust(*_: object) -> None:
        raise RuntimeError("cannot write: No space left on device (os error 28)")

    world.make("views", "manifest")
    from toy import makes  # pyright: ignore[reportMissingImports]

    for refuses, words in ((full, "weights: no space left"), (full_in_rust, "no space left")):
        monkeypatch.setattr(makes, "model", refuses)
        with pytest.raises(OrbitforgeError, match=f"model failed: {words} on the disk; free some") as told:
            world.make("model")
        assert told.value.__cause__ is None
    assert made(world, "model") == []
    assert not (world.data / "toy" / "model").exists()


def test_a_ledger_that_cannot_be_written_stops_the_run_before_it_works(world: World):
    world.data.joinpath("ledger").write_text("a file")
    with pytest.raises(OrbitforgeError, match=r"writing the ledger .*a file stands where a folder belongs"):
        world.make("views")
    assert world.calls() == []


def test_a_finished_stage_is_not_repeated_when_the_commit_was_killed(world: World, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", killed)
        patch.setattr("orchestration.tasks.observe", lambda current, source, shard: Row("observed", "toy", "s", shard))
        patch.setattr("orchestration.tasks.link_inputs", lambda folder, files, of: folder.mkdir(parents=True))
        patch.setattr("toy.makes.views", lambda work: (work.output / "x").write_text("x"))
        with pytest.raises(KeyboardInterrupt):
            world.make("views")
    assert made(world, "views") == []
    world.make("views", shards=["000"])
    assert world.calls() == []
    assert (world.data / "toy/views/000/x").read_text() == "x"


def test_what_was_made_and_not_recorded_is_recorded_by_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            world.make("views")
    assert store.recorded() == {}
    world.calls()
    world.make("views")
    assert world.calls() == []
    files = {f"{row.folder}/{file.path}": file.md5 for row in made(world, "views") for file in row.files}
    assert files.items() <= store.recorded().items()


def test_a_row_whose_bytes_are_lost_does_not_count_as_made_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch):
    world.make("views")
    (lost, _), look = made(world, "views"), Meanwhile.row
    store.object_path(lost.files[0].md5).unlink()
    shutil.rmtree(world.data / lost.folder)

    def after_compaction(self: Meanwhile, folder: str, key: str) -> Row | None:
        Ledger().append(Row(OBSERVED, "toy", "other", ended="2020"))
        Ledger().compact(everything=True)  # the old row stands in a new file
        return look(self, folder, key)

    monkeypatch.setattr(Meanwhile, "row", after_compaction)
    world.make("views")
    assert (world.data / lost.folder / lost.files[0].path).is_file()
    assert len(made(world, "views")) == 3


KILLED = """
import sys
sys.path.insert(0, {source!r})
import dagster as dg
from orchestration.pipeline import Pipeline
from orchestration.presets.schema import Preset
from tests.orchestration.world import CLIPS, MANIFEST, TABLE_MODEL, VIEWS, World
from pathlib import Path
pipeline = Pipeline(Preset.model_validate(dict(name="toy")), (VIEWS, MANIFEST, TABLE_MODEL, CLIPS))
World(Path({root!r}), dg.DagsterInstance.ephemeral(), pipeline).make("model")
"""


def test_a_killed_training_goes_on_where_it_was(world: World, tmp_path: Path):
    world.make("views", "manifest")
    script = KILLED.format(source=str(world.root / "src"), root=str(world.root))
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TOY_KILL": "2"}, check=False)
    assert killed.returncode == -9
    assert world.states()["model"] == "missing"
    (steps,) = (world.root / ".work" / "model").rglob("steps")
    assert steps.read_text() == "2"
    world.calls()
    events = world.make("model")
    assert world.calls() == ["model None"]
    resumed = made(world, "model")[0].version
    assert events[0].tags is not None
    assert events[0].tags["dagster/data_version"] == resumed
    assert not steps.exists()


KILLED_IN_SHARDS = """
import os
import sys
sys.path.insert(0, {source!r})
import dagster as dg
from orchestration import artifacts, tasks
from orchestration.pipeline import Pipeline
from orchestration.presets.schema import Preset
from tests.orchestration.world import CLIPS, MANIFEST, TABLE_MODEL, VIEWS, World
from pathlib import Path
committed = []
place = artifacts.place
def placed(*arguments):
    place(*arguments)
    committed.append(arguments)
    if len(committed) == 3:
        os.kill(os.getpid(), 9)
artifacts.place = placed
pipeline = Pipeline(Preset.model_validate(dict(name="toy")), (VIEWS, MANIFEST, TABLE_MODEL, CLIPS))
World(Path({root!r}), dg.DagsterInstance.ephemeral(), pipeline).make("clips")
"""


def test_a_corpus_whose_run_was_killed_goes_on_at_the_first_missing_shard(world: World):
    texts = {f"prompt {number}": f"{number:03}" for number in range(8)}
    world.prompts(texts)
    world.make("views", "manifest", "model")
    world.calls()
    script = KILLED_IN_SHARDS.format(source=str(world.root / "src"), root=str(world.root))
    environment = {**os.environ, "ORBITFORGE_WORKERS": "2"}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -9
    fresh = {shard.shard for shard in world.status()["clips"].shards if shard.status == "fresh"}
    assert len(fresh) == 3
    world.calls()
    reconcile(world.pipeline)
    world.make("clips")
    again = {line.split()[1] for line in world.calls()}
    assert again.isdisjoint(fresh)
    assert world.states()["clips"] == "fresh"
    for text, shard in texts.items():
        assert (world.data / f"toy/clips/{shard}/clips.txt").read_text() == f"ape m{text}"


def test_progress_reaches_listeners_and_previews_reach_dagster(world: World, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[str, str | None, dict[str, Any]]] = []
    monkeypatch.setattr(artifacts, "LISTENERS", [lambda asset, shard, event: seen.append((asset, shard, event))])
    events = world.make("views")
    reports = [event for asset, shard, event in seen if (asset, shard) == ("views", "000")]
    assert any(event.items() >= {"message": "rendered", "metrics": {"objects": 1.0}}.items() for event in reports)
    assert "# seen" in str(events[0].metadata["preview"])
    assert events[0].metadata["objects"].value == 1.0
    assert not list(world.data.rglob("*.md"))


def test_what_was_made_elsewhere_is_adopted_with_a_reason(world: World, tmp_path: Path):
    world.make("views", "manifest")
    weights = tmp_path / "downloads"
    weights.mkdir()
    (weights / "weights").write_text("made elsewhere")
    model = world.pipeline.steps[2]
    with pytest.raises(OrbitforgeError, match=r"gone is no folder"):
        adopt(world.pipeline, model, tmp_path / "gone", reason="none")
    row = adopt(world.pipeline, model, weights, reason="a colleague, CC0")
    assert (weights / "weights").read_text() == "made elsewhere"
    assert (row.service, row.reference, row.dagster_run) == ("adopted", "a colleague, CC0", None)
    assert world.states()["model"] == "fresh"
    assert reconcile(world.pipeline) == []
    world.make("clips")
    assert (world.data / "toy/clips/000/clips.txt").read_text() == "made red"
    world.configure(rendering={"size": 64})
    assert world.states()["model"] == "stale"


def test_models_need_mlflow_before_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = build(tmp_path, monkeypatch, model=MODEL)
    world.make("views", "manifest")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    world.calls()
    with pytest.raises(OrbitforgeError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be reached"):
        world.make("model")
    assert world.calls() == []


def test_a_machine_with_other_libraries_makes_nothing(world: World, monkeypatch: pytest.MonkeyPatch):
    there = dict(tasks.environment()) | {"polars": "0.0.1", "cpu": "another", "threads": "8", "dagster": "0.1"}
    monkeypatch.setattr(tasks, "environment", lambda: there)
    current = Current(world.pipeline)
    task = plan(current, current.wanted(world.pipeline.find("views"), "000"), make_of("views"))
    task = replace(task, environment=environment())
    with pytest.raises(MachineError, match=r"has polars 0\.0\.1 in place of \d[\d.]*; nothing was made there"):
        perform(task, lambda event: None)
    assert world.calls() == []
    made_there = perform(replace(task, environment=there | {"cpu": "mine", "threads": "1"}), lambda event: None)
    assert made_there.environment == there
