"""Damage is found and named, whoever did it; what is only behind is told and breaks nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.errors import OrbitforgeError
from orchestration.home import open_instance
from orchestration.lineage.audit.events import newest_tags
from orchestration.lineage.audit.findings import FILE, Finding
from orchestration.lineage.audit.rows import ledger_findings
from orchestration.lineage.audit.whole import audit
from orchestration.lineage.current import Current
from orchestration.lineage.hashing import hash_files
from orchestration.lineage.ledger import MADE, OBSERVED, SCHEMA, File, Ledger, Row
from orchestration.publish import register
from orchestration.resources import store
from orchestration.resources.tracking import Tracking
from orchestration.steps import ROW_TAG
from orchestration.versions import file_md5
from orchestration.workspace import object_path, remove
from tests.orchestration.world import MODEL, World, build


@pytest.fixture
def made(world: World) -> World:
    """The whole chain, told to DVC and Dagster, and committed."""
    (world.data / "human_labels").mkdir()
    pl.DataFrame({"clip": ["c"], "verdict": ["good"]}).write_parquet(world.data / "human_labels" / "labels.parquet")
    world.make("views", "manifest", "model", "clips")
    store.publish({}, also=[world.data / "source", world.data / "human_labels"])
    for command in (
        ["init", "-q"],
        ["add", "data.dvc"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=world.root, check=True)
    assert findings(world) == []
    return world


def findings(world: World) -> list[Finding]:
    return list(audit(world.pipeline, world.instance).findings)


def broken(world: World) -> list[str]:
    found = audit(world.pipeline, world.instance)
    return [f"{finding.what}: {finding.found}" for finding in found.broken]


def flip(path: Path) -> None:
    """One bit, with size and time stamps as they were: what DVC and `make` would not see."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def rewrite(world: World, change: Callable[[pl.DataFrame], pl.DataFrame], *, told: bool = False) -> None:
    """Replace the ledger by another; with `told` DVC is made to believe it."""
    table = change(Ledger().read())
    for file in Ledger().files():
        file.unlink()
    table.write_parquet(Ledger().folder / "rows-forged.parquet")
    if told:
        store.publish({}, also=[Ledger().folder])


def test_a_flipped_bit_is_named_though_size_and_time_are_the_same(made: World):
    shard = made.data / "toy" / "views" / "001" / "cow.txt"
    before = file_md5(shard)
    shard.unlink()
    shard.write_bytes(object_path(before).read_bytes())  # a copy, as on a file system without links
    flip(shard)
    (finding,) = broken(made)
    assert finding.startswith("data/toy/views/001/cow.txt: has md5 ")
    assert finding.endswith(f"says {before}")


def test_a_flipped_bit_in_the_cache_is_told_once(made: World):
    md5 = file_md5(made.data / "toy" / "views" / "001" / "cow.txt")
    flip(object_path(md5))  # a hard link: the file in data/ is the same
    (finding,) = broken(made)
    assert "data/toy/views/001/cow.txt" in finding
    shard = made.data / "toy" / "views" / "001" / "cow.txt"
    shard.unlink()
    shard.write_text("cow mesh of cow 16")
    (finding,) = broken(made)
    assert finding.startswith("the cache object of data/toy/views/001/cow.txt: has md5 ")


def test_a_missing_shard_is_named(made: World):
    remove(made.data / "toy" / "views" / "001")
    (finding,) = broken(made)
    row = Current(made.pipeline).row("views", "001")
    assert row is not None
    assert finding == f"data/toy/views/001: is missing, row {row.id} names it with 1 files"


def test_a_missing_object_is_named(made: World):
    row = Current(made.pipeline).row("views", "000")
    assert row is not None
    object_path(row.files[0].md5).unlink()
    (finding,) = broken(made)
    assert finding.startswith("the cache object of data/toy/views/000/ape.txt: is missing")


def test_a_file_nobody_made_is_named(made: World):
    (made.data / "toy" / "views" / "000" / "zebra.txt").write_text("?")
    assert broken(made) == ["data/toy/views/000/zebra.txt: has no row in the ledger"]


def test_an_edited_label_file_is_named(made: World):
    labels = made.data / "human_labels" / "labels.parquet"
    pl.DataFrame({"clip": ["c"], "verdict": ["bad"]}).write_parquet(labels)
    (finding,) = broken(made)
    assert finding.startswith("data/human_labels/labels.parquet: has md5 ")


def test_an_edited_mesh_is_named(made: World):
    (made.data / "source" / "meshes" / "ape.glb").write_text("mesh of apE")
    (finding,) = broken(made)
    assert finding.startswith("data/source/meshes/ape.glb: has md5 ")


def test_a_changed_row_is_named(made: World):
    row = Current(made.pipeline).row("model")
    assert row is not None
    rewrite(
        made,
        lambda t: t.with_columns(seconds=pl.when(id=row.id).then(pl.col("seconds") + 1).otherwise("seconds")),
        told=True,
    )
    assert any(f"row {row.id} (toy/model)" in line and "was changed" in line for line in broken(made))


def test_a_removed_row_is_named_by_its_children_and_by_git(made: World):
    row = Current(made.pipeline).row("manifest")
    assert row is not None
    rewrite(made, lambda t: t.filter(pl.col("id") != row.id), told=True)
    found = broken(made)
    assert any(line.startswith(f"row {row.id}: is gone, but made row ") for line in found)
    assert any(line.startswith(f"row {row.id} (toy/manifest): was removed: data.dvc of git's HEAD") for line in found)
    assert f"Dagster manifest: names ledger row {row.id}, which is not in the ledger" in found


@pytest.mark.parametrize("told", [False, True])
def test_a_ledger_cut_off_at_its_end_is_named(made: World, told: bool):
    last = Ledger().read().filter(kind=MADE).row(-1, named=True)
    rewrite(made, lambda t: t.filter(pl.col("ended") < last["ended"]), told=told)
    found = broken(made)
    assert any(f"row {last['id']} (toy/clips[001]): was removed" in line for line in found)
    assert f"Dagster clips[001]: names ledger row {last['id']}, which is not in the ledger" in found
    assert "data/toy/clips/001/clips.txt: has no row in the ledger" in found


def test_a_ledger_cut_off_outside_git_is_named_by_dagster(made: World):
    last = Ledger().read().filter(kind=MADE).row(-1, named=True)
    remove(made.root / ".git")
    remove(made.data / "toy" / "clips" / "001")
    rewrite(made, lambda t: t.filter(pl.col("ended") < last["ended"]), told=True)
    assert f"Dagster clips[001]: names ledger row {last['id']}, which is not in the ledger" in broken(made)


def test_a_tag_that_was_changed_is_named(made: World):
    event = made.instance.fetch_materializations(dg.AssetKey("manifest"), limit=1).records[0].asset_materialization
    assert event is not None
    tags = {**(event.tags or {}), "dagster/data_version": "forged"}
    made.instance.report_runless_asset_event(dg.AssetMaterialization("manifest", tags=tags))
    assert broken(made)[0].startswith(f"Dagster manifest: has data version forged, row {tags[ROW_TAG]} says ")


def test_a_compaction_is_no_damage(made: World):
    assert len(Ledger().files()) > 1
    Ledger().compact(everything=True)
    assert broken(made) == []


def test_what_data_dvc_does_not_have_yet_is_only_behind(made: World):
    Ledger().compact(everything=True)
    made.prompts({"red": "000", "blue": "001", "green": "002"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "publish", lambda *_, **__: None)
        made.make("clips")
    found = audit(made.pipeline, made.instance)
    assert [finding.what for finding in found.broken] == ["data/source/prompts.parquet"]
    assert "data/toy/clips/002" in [finding.what for finding in found.findings if not finding.broken]


def test_rows_that_came_with_a_shipped_model_are_no_damage(made: World):
    """Of another preset a folder is here, and the rows of all that a model was made of, whose bytes are elsewhere."""
    ids = Ledger().query(lambda rows: rows.filter(pl.col("kind").is_in([MADE, OBSERVED])))["id"]
    gone = (File("gone.bin", "e" * 32, 3),)
    others = [
        replace(row, preset="furniture", folder=row.folder.replace("toy", "furniture"), files=gone, inputs=())
        for row in Current(made.pipeline).rows_of_ids(ids)
    ]
    assert {row.kind for row in others} == {MADE, OBSERVED}
    Ledger().append(*others)
    (made.data / "furniture").mkdir()
    found = audit(made.pipeline, made.instance)
    assert [each for each in found.broken if each.where == FILE] == []
    assert {"data/furniture/model", "data/sweethome3d"} <= set(found.absent)


def test_a_detached_pointer_is_named(made: World):
    pointer = made.root / "data.dvc"
    pointer.write_text(pointer.read_text().replace(str(store.pointer()), f"{'0' * 32}.dir"))
    assert broken(made)[0].startswith(f"data.dvc: names the list {'0' * 32}.dir, which is not in the cache")
    before = made.root / ".work/data.dvc.before"
    pointer.write_text("outs: []")
    assert broken(made) == []  # it is brought back as it was last known
    before.unlink()
    pointer.write_text("outs: []")
    with pytest.raises(OrbitforgeError, match=r"data\.dvc is no pointer that DVC wrote; bring it back with"):
        broken(made)
    pointer.unlink()
    assert broken(made)[0] == "data.dvc: is missing"


def test_a_remote_that_lacks_blobs_is_named(made: World, monkeypatch: pytest.MonkeyPatch):
    from dvc.repo import Repo

    from orchestration.lineage.audit.remote import remote_findings

    monkeypatch.chdir(made.root)
    (made.root / "away").mkdir()
    config = made.root / ".dvc" / "config"
    config.write_text(config.read_text() + "['remote \"away\"']\n    url = ../away\n")
    assert len(list(remote_findings("away"))) == len(store.recorded()) + 1
    with Repo(str(made.root)) as repo:
        repo.push(remote="away")
    assert list(remote_findings("away")) == []
    md5 = file_md5(made.data / "toy" / "views" / "001" / "cow.txt")
    (made.root / "away" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    (finding,) = remote_findings("away")
    assert str(finding) == (
        f"data/toy/views/001/cow.txt: is not in the remote 'away' (md5 {md5}); push it with `dvc push -r away`"
    )


def test_a_checkpoint_swapped_in_mlflow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = build(tmp_path, monkeypatch, model=MODEL)
    world.make("views", "manifest", "model")
    row = Current(world.pipeline).row("model")
    assert row is not None
    assert broken(world) == []
    (copy,) = (world.root / ".mlflow").rglob("weights")
    flip(copy)
    (finding,) = broken(world)
    assert finding.startswith("MLflow models:/toy-model/1 weights: has md5 ")
    assert "the checkpoint was swapped or damaged" in finding
    flip(copy)
    client = Tracking().client()
    client.set_model_version_tag("toy-model", "1", "dvc.md5", "forged")
    assert broken(world) == [f"MLflow models:/toy-model/1: has the tag dvc.md5 forged, row {row.id} says {row.version}"]
    client.set_model_version_tag("toy-model", "1", "ledger.row", "nobody")
    assert "names ledger row nobody, which is not in the ledger" in broken(world)[0]
    client.set_model_version_tag("toy-model", "1", "ledger.row", row.id)
    client.set_model_version_tag("toy-model", "1", "dvc.md5", row.version)
    assert broken(world) == []
    remove(copy.parent)
    assert "has no files at" in broken(world)[0]
    assert register(row, Tracking()).reference == "models:/toy-model/1"


def test_a_version_stands_for_every_row_with_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = build(tmp_path, monkeypatch, model=MODEL)
    world.make("views", "manifest", "model")
    first = Current(world.pipeline).row("model")
    world.edit("toy.helper", "line(*parts)", "line(*parts, unused=1)")
    world.make("views", "manifest", "model")
    second = Current(world.pipeline).row("model")
    assert first
    assert second
    assert (first.id, first.version) != (second.id, first.version) == (second.id, second.version)
    assert [finding for finding in findings(world) if finding.where == "mlflow"] == []


def test_dagsters_file_says_what_its_api_says(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", "")
    with open_instance() as instance:
        world.instance = instance
        world.make("views", "manifest")
        world.configure(rendering={"views": 9})
        world.make("views")
        found = newest_tags()
        assert found == newest_tags(instance)
        assert set(found) == {("views", "000"), ("views", "001"), ("manifest", None)}
        assert audit(world.pipeline).broken == []
        monkeypatch.setattr("orchestration.lineage.audit.events._NEWEST", "SELECT 1 FROM nowhere")
        assert newest_tags() == found  # another Dagster may keep it elsewhere


def test_an_audit_imports_no_service_that_it_need_not_ask(made: World):
    script = (
        "import sys; from orchestration.cli.audit import audit_command; from orchestration import pipeline\n"
        "pipeline.sources_only()\nassert not {'torch', 'dvc', 'mlflow', 'dagster', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "ORBITFORGE_PRESET": "nano"})


def test_databases_that_are_gone_are_no_damage(made: World):
    lost = dg.DagsterInstance.ephemeral()
    found = audit(made.pipeline, lost)
    assert found.broken == []
    assert "Dagster clips: has no event for 2 of 2 that were made; `orbitforge restore`" in str(
        next(f for f in found.findings if "clips" in f.what)
    )


words = st.text(max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(words, min_size=2, max_size=6, unique=True),
    st.integers(0, 5),
    st.sampled_from(sorted(set(SCHEMA) - {"id", "files", "inputs", "seed", "seconds", "bytes"})),
    st.text(min_size=1, max_size=6),
)
def test_no_field_of_a_row_can_be_changed_unseen(tmp_path_factory, shards, which, column, value):
    folder = tmp_path_factory.mktemp("ledger")
    rows = [Row(MADE, "toy", "a", shard, f"toy/a/{shard}", config={"n": 1}, ended="2030") for shard in shards]
    Ledger(folder).append(*rows)
    (file,) = folder.iterdir()
    table = pl.read_parquet(file)
    chosen = pl.int_range(pl.len()) == which % len(table)
    forged = table.with_columns(pl.when(chosen).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    if forged.equals(table):
        return
    forged.write_parquet(file)
    from orchestration.lineage.audit.rows import _changed

    named = list(_changed(file, pl.read_parquet(file)))
    assert len(named) == 1
    assert table["id"][which % len(table)] in named[0].what


def test_files_are_hashed_like_md5_does_once_for_each_inode(tmp_path: Path):
    import hashlib

    contents = [b"", b"a", os.urandom(3_000_000)]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    os.link(paths[2], tmp_path / "again")
    read: list[int] = []
    asked = [*paths, tmp_path / "again", tmp_path / "none"]
    found = hash_files(asked, workers=2, begin=read.append, report=lambda size: read.append(-size))
    assert [found[path] for path in paths] == [hashlib.md5(content).hexdigest() for content in contents]
    assert found[tmp_path / "again"] == found[paths[2]]
    assert isinstance(found[tmp_path / "none"], FileNotFoundError)
    assert sum(read) == 0


def test_a_ledger_file_that_cannot_be_read_is_named(made: World):
    (Ledger().folder / "rows-bad.parquet").write_text("?")
    found = list(ledger_findings_until_error(made))
    assert "data/ledger/rows-bad.parquet" in found[0]


def ledger_findings_until_error(world: World):
    for finding in ledger_findings(Ledger()):
        yield finding.what
        return
