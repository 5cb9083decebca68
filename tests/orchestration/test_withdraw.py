"""What is withdrawn is used no more, is named as the reason, and leaves its bytes where it is asked to."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.whole import audit
from orchestration.lineage.current import Current
from orchestration.lineage.idle import refuse_running
from orchestration.lineage.ledger import WITHDRAWN, Ledger
from orchestration.lineage.purge import purge, to_purge
from orchestration.lineage.sources import observe
from orchestration.lineage.withdraw import entries, holders, refuse_withdrawn, withdraw
from orchestration.lineage.withdrawn import withdrawals
from orchestration.resources import store
from orchestration.versions import file_md5
from orchestration.workspace import Scratch, object_path
from stages.quality.judged import SCHEMA
from stages.shards import Sample, write_shard
from tests.orchestration.world import World

CHAIN = ("views", "manifest", "model", "clips")


@pytest.fixture
def made(world: World) -> World:
    """The chain, and judged clips of two objects."""
    judged(world, {"c0": "ape", "c1": "bee"})
    world.make(*CHAIN)
    store.publish({}, also=[world.data / "source", world.data / "human_labels"])
    world.calls()
    return world


def judged(world: World, clips: dict[str, str]) -> None:
    folder = world.data / "human_labels"
    folder.mkdir()
    rows = [{"clip": clip, "tar": "clips.tar", "verdict": "good", "object": object_} for clip, object_ in clips.items()]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(folder / "labels.parquet")
    pixels = np.zeros((1, 2, 2, 4), np.uint8)
    write_shard(folder / "clips.tar", (Sample(clip, pixels, {"cameras": [[0.0] * 16]}) for clip in clips))


def gone(world: World, id_: str, *, purging: bool = False) -> None:
    current = Current(world.pipeline)
    found = entries(world.pipeline, id_)
    files = to_purge(current, found, [each.row for each in holders(current, found)]) if purging else []
    withdraw(world.pipeline, id_, found, reason="asked for", by="Ada", purged=files)
    if purging:
        purge(current, found, files)


def test_all_that_shows_it_goes_with_it(made: World):
    found = {(entry.source.name, entry.id, entry.shard) for entry in entries(made.pipeline, "ape")}
    assert found == {
        ("source_objects", "ape", "000"),
        ("prompts", "p0", "000"),
        ("prompts", "p1", "001"),
        ("human_labels", "c0", None),
    }
    assert [entry.id for entry in entries(made.pipeline, "p1")] == ["p1"]
    with pytest.raises(OrbitforgeError, match="no object, prompt or label is called 'emu'"):
        entries(made.pipeline, "emu")


def test_what_holds_it_is_stale_with_that_reason_and_does_without_it(made: World):
    gone(made, "bee")
    states = made.status()
    assert {name: state.status for name, state in states.items()} == dict.fromkeys(CHAIN, "stale")
    assert [shard.status for shard in states["views"].shards] == ["stale", "fresh"]
    for state in states.values():
        assert any(reason.startswith("bee was withdrawn: asked for") for reason in state.why)
    made.make(*CHAIN)
    assert json.loads((made.data / "toy/manifest/manifest.json").read_text())["000"] == {
        "ape.txt": "ape mesh of ape 16"
    }
    assert set(made.states().values()) == {"fresh"}


def test_it_stays_out_when_a_table_brings_it_again(made: World):
    gone(made, "bee")
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    assert made.pipeline.table("objects")["id"].to_list() == ["ape", "cow", "doe"]
    assert made.pipeline.whole_table("objects")["id"].to_list() == ["ape", "bee", "cow", "doe"]


def test_labels_reach_stages_without_its_clips(made: World):
    labels = made.pipeline.sources[2]
    before = made.pipeline.observe(labels)
    gone(made, "ape")
    assert made.pipeline.observe(labels) != before
    files = {file.path: file.md5 for file in observe(Current(made.pipeline), labels, None).files}
    assert pl.read_parquet(object_path(files["labels.parquet"]))["clip"].to_list() == ["c1"]
    with tarfile.open(object_path(files["clips.tar"])) as tar:
        assert {name.partition(".")[0] for name in tar.getnames()} == {"c1"}
    assert len(pl.read_parquet(made.data / "human_labels" / "labels.parquet")) == 2  # a person's file is left alone
    assert audit(made.pipeline, made.instance).broken == []


def test_holders_are_found_at_any_distance(made: World):
    current = Current(made.pipeline)
    found = {(each.row.asset, each.row.shard): each for each in holders(current, entries(made.pipeline, "cow"))}
    assert set(found) == {("views", "001"), ("manifest", None), ("model", None), ("clips", "000"), ("clips", "001")}
    assert all(each.newest for each in found.values())
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    made.make("views")
    again = holders(Current(made.pipeline), entries(made.pipeline, "doe"))
    assert [(each.row.asset, each.row.shard) for each in again] == [
        ("views", "001")
    ]  # not what was made before it came


def test_purging_takes_its_bytes_from_everywhere(made: World, tmp_path: Path):
    remote = made.root / "away"
    remote.mkdir()
    config = made.root / ".dvc" / "config"
    config.write_text(config.read_text() + "['remote \"away\"']\n    url = ../away\n")
    from dvc.repo import Repo

    with Repo(str(made.root)) as repo, pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.root)
        repo.push(remote="away")
    mesh = file_md5(made.data / "source" / "meshes" / "bee.glb")
    view = file_md5(made.data / "toy" / "views" / "000" / "bee.txt")
    other = file_md5(made.data / "toy" / "views" / "001" / "cow.txt")
    tar = file_md5(made.data / "human_labels" / "clips.tar")
    gone(made, "bee", purging=True)
    for md5 in (mesh, view, tar):
        assert not object_path(md5).exists()
        assert not (remote / "files" / "md5" / md5[:2] / md5[2:]).exists()
        assert md5 not in store.recorded().values()
    assert object_path(other).exists()
    assert (remote / "files" / "md5" / other[:2] / other[2:]).exists()
    assert not (made.data / "source" / "meshes" / "bee.glb").exists()
    assert pl.read_parquet(made.data / "human_labels" / "labels.parquet")["clip"].to_list() == ["c0"]
    assert audit(made.pipeline, made.instance).broken == []
    made.make(*CHAIN)
    assert set(made.states().values()) == {"fresh"}
    assert audit(made.pipeline, made.instance).broken == []


def test_bytes_that_others_have_stay(made: World):
    views = Current(made.pipeline).row("views", "001")
    assert views is not None
    current = Current(made.pipeline)
    found = entries(made.pipeline, "ape")
    paths = {file.path for file in to_purge(current, found, [each.row for each in holders(current, found)])}
    assert paths == {
        "source/meshes/ape.glb",
        "toy/views/000/ape.txt",
        "toy/views/000/bee.txt",  # the shard is one artifact
        "toy/clips/000/clips.txt",
        "toy/clips/001/clips.txt",
        "human_labels/clips.tar",
    }


def test_a_remote_that_does_not_answer_stops_a_purge_before_it_begins(made: World):
    config = made.root / ".dvc" / "config"
    config.write_text(config.read_text() + "['remote \"far\"']\n    url = ssh://127.0.0.1:9/nowhere\n")
    current, found = Current(made.pipeline), entries(made.pipeline, "bee")
    files = to_purge(current, found, [each.row for each in holders(current, found)])
    with pytest.raises(OrbitforgeError, match="the DVC remote 'far' "):
        purge(current, found, files)
    assert all(object_path(file.md5).exists() for file in files)


def test_twice_is_told(made: World):
    gone(made, "bee")
    found = entries(made.pipeline, "bee")
    with pytest.raises(OrbitforgeError, match=r"bee was withdrawn on .* by Ada already: asked for; --purge removes"):
        refuse_withdrawn(Current(made.pipeline), found, purging=False)
    refuse_withdrawn(Current(made.pipeline), found, purging=True)
    gone(made, "bee", purging=True)
    assert withdrawals()["bee"].files
    assert Ledger().read().filter(kind=WITHDRAWN).height == 4


def test_nothing_is_taken_while_somebody_works(world: World):
    refuse_running("purging")
    with (
        Scratch.of("views", "001", "k").held("toy pid 7 on here"),
        pytest.raises(OrbitforgeError, match=r"purging must wait: views\[001\] is being made by toy pid 7 on here"),
    ):
        refuse_running("purging")


def test_a_withdrawal_ships_in_the_ledger(made: World):
    gone(made, "bee")
    script = "from orchestration.lineage.withdrawn import withdrawals; print(withdrawals()['bee'].reason)"
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "asked for"
