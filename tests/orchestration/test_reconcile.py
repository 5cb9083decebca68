from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from orchestration.lineage.ledger import PUBLISHED, RECALLED, Ledger
from orchestration.lineage.reconcile import reconcile
from orchestration.resources import store
from orchestration.workspace import object_path, remove
from tests.orchestration.world import MODEL, World, build


@pytest.fixture
def made(world: World) -> World:
    world.make("views", "manifest")
    assert reconcile(world.pipeline, world.instance) == []
    return world


def test_a_missing_artifact_is_linked_again(made: World):
    remove(made.data / "toy" / "views" / "001")
    assert reconcile(made.pipeline) == ["data/toy/views/001 was missing: linked again from the cache"]
    assert (made.data / "toy/views/001/cow.txt").read_text() == "cow mesh of cow 16"
    assert reconcile(made.pipeline) == []


def test_what_has_no_row_is_set_aside_and_never_deleted(made: World):
    for name in ("views/002/x", "other/y", "views/z"):
        path = made.data / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (made.data / "elsewhere").mkdir()
    found = reconcile(made.pipeline)
    assert found == [
        f"data/toy/{name} has no ledger row: moved to .work/unclaimed/toy/{name}"
        for name in ("other", "views/002", "views/z")
    ]
    assert (made.root / ".work/unclaimed/toy/views/002/x").read_text() == "views/002/x"
    assert (made.data / "elsewhere").exists()  # only the preset's own folder is ours
    assert reconcile(made.pipeline) == []


def test_an_artifact_that_was_changed_is_put_right(made: World):
    path = made.data / "toy" / "views" / "001" / "cow.txt"
    path.unlink()
    path.write_text("scribbled over")
    (found,) = reconcile(made.pipeline)
    assert "was not what the ledger says: linked again, the other moved to .work/unclaimed/toy/views/001" in found
    assert path.read_text() == "cow mesh of cow 16"
    assert (made.root / ".work/unclaimed/toy/views/001/cow.txt").read_text() == "scribbled over"


def test_a_kill_between_row_and_folder_is_rolled_forward(made: World, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    made.configure(rendering={"views": 9})
    with monkeypatch.context() as patch:
        patch.setattr("orchestration.artifacts.place", killed)
        with pytest.raises(KeyboardInterrupt):
            made.make("views", shards=["001"])
    assert (made.data / "toy/views/001/cow.txt").read_text() == "cow mesh of cow 16"
    found = reconcile(made.pipeline, made.instance)
    assert len(found) == 3  # the folder, DVC, Dagster
    assert (made.data / "toy/views/001/cow.txt").read_text() == "cow mesh of cow 9"
    assert made.status()["views"].shards[1].status == "fresh"
    made.calls()
    made.make("views", shards=["001"])
    assert made.calls() == []


STRIDE = 4  # 1 tries every place, and takes four times as long


class Killed(BaseException):
    """What no `except Exception` catches."""


class Reaper:
    """Lets this process do so many things to the disk, and then nothing any more, not even tidy up."""

    DEEDS = ("rename", "replace", "unlink", "write_text", "symlink_to", "mkdir", "chmod")

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        deeds = [(Path, name) for name in self.DEEDS] + [(os, "link"), (shutil, "move"), (shutil, "rmtree")]
        for owner, name in [*deeds, (pl.DataFrame, "write_parquet"), (store, "_add")]:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return deed(*arguments, **named)

        return counted


def test_a_kill_anywhere_is_made_good(made: World):
    """Killed between two things it does to the disk, and run again, it ends as if it had not been killed."""
    after, killed = 0, True
    while killed:
        made.configure(rendering={"views": 20 + after})
        with pytest.MonkeyPatch.context() as patch:
            Reaper(patch, after)
            try:
                made.make("views", shards=["001"])
                killed = False
            except Killed:
                pass
        shown = (made.data / "toy" / "views" / "001" / "cow.txt").parent
        whole = [f"cow mesh of cow {views}" for views in (20 + after - STRIDE, 20 + after)]
        assert not shown.exists() or (shown / "cow.txt").read_text() in ["cow mesh of cow 16", *whole]
        reconcile(made.pipeline, made.instance)
        made.make("views", shards=["001"])
        assert (shown / "cow.txt").read_text() == whole[1]
        assert made.status()["views"].shards[1].status == "fresh"
        assert reconcile(made.pipeline, made.instance) == []
        assert not (made.root / ".work" / "unclaimed").exists()
        after += STRIDE
    assert after > 20  # it was killed at that many places


def test_an_earlier_version_that_was_checked_out_becomes_the_current_one(made: World):
    made.configure(rendering={"views": 9})
    made.make("views", shards=["001"])
    folder = made.data / "toy" / "views" / "001"
    remove(folder)
    folder.mkdir()
    (folder / "cow.txt").write_text("cow mesh of cow 16")  # as `dvc checkout` of an old revision does
    (found,) = [line for line in reconcile(made.pipeline) if "data.dvc" not in line]
    assert "data/toy/views/001 holds the earlier version" in found
    assert Ledger().read().filter(pl.col("kind") == RECALLED).height == 1
    made.configure(rendering={"views": 16})
    assert set(made.states().values()) >= {"fresh"}
    assert made.states()["views"] == "fresh"


def test_files_that_are_nowhere_are_reported(made: World):
    folder = made.data / "toy" / "views" / "001"
    (row,) = [r for r in Ledger().read().to_dicts() if r["folder"] == "toy/views/001"]
    object_path(row["files"][0]["md5"]).unlink()
    remove(folder)
    assert reconcile(made.pipeline) == [
        "data/toy/views/001 is missing, and 1 files are not in the cache: pull or make it"
    ]
    made.make("views")
    assert made.states()["views"] == "fresh"


def test_dvc_is_told_what_it_lacks(made: World):
    before = store.recorded()
    (made.root / "data.dvc").unlink()
    assert len(reconcile(made.pipeline)) == 3
    assert {name: md5 for name, md5 in store.recorded().items() if name.startswith("toy/")} == {
        name: md5 for name, md5 in before.items() if name.startswith("toy/")
    }


def test_dagster_is_told_what_it_lost(made: World):
    with dg.DagsterInstance.ephemeral() as empty:
        found = reconcile(made.pipeline, empty)
        assert len(found) == 3
        assert reconcile(made.pipeline, empty) == []
        events = [
            record.asset_materialization
            for record in empty.fetch_materializations(dg.AssetKey("views"), limit=9).records
        ]
        assert {event.partition for event in events if event} == {"000", "001"}


def test_mlflow_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = build(tmp_path, monkeypatch, model=MODEL)
    world.make("views", "manifest")
    registered: list[str] = []

    def register(self: object, name: str, folder: Path, run_id: str | None, tags: dict[str, str]) -> str:
        registered.append(f"{name} {tags['dvc.md5']} {sorted(path.name for path in folder.iterdir())}")
        return str(len(registered))

    monkeypatch.setattr("orchestration.resources.tracking.Tracking.register", register)
    monkeypatch.setattr("orchestration.resources.tracking.Tracking.start", lambda *_, **__: "run")
    monkeypatch.setattr("orchestration.resources.tracking.Tracking.logger", lambda *_: SimpleNamespace(left=[]))
    monkeypatch.setattr("orchestration.resources.tracking.Tracking.finish", lambda *_, **__: None)
    monkeypatch.setattr("orchestration.resources.tracking.Tracking.complete", lambda *_: None)
    monkeypatch.setattr("toy.makes.model", lambda work: (work.output / "weights").write_text("w"))
    world.make("model")
    told = Ledger().read().filter(pl.col("kind") == PUBLISHED).to_dicts()
    assert [row["reference"] for row in told] == ["models:/toy-model/1"]
    assert reconcile(world.pipeline) == []
    (tmp_path / ".mlflow" / "mlflow.db").unlink()
    assert reconcile(world.pipeline) == ["model was not in MLflow: registered as models:/toy-model/2"]
    assert registered[0] == registered[1] == f"toy-model {world.status()['model'].version} ['weights']"
