from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration import workspace
from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import File
from orchestration.locks import locked
from orchestration.resources.store import object_path
from orchestration.workspace import Scratch, adopt, in_place, link_inputs, missing, place, protect, set_aside, store
from tests.orchestration.world import World


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def output(world: World) -> Path:
    return write(Scratch.of("a", "000", "key").fresh("output"), one="1", deep__two="22")


def test_output_moves_into_the_cache_and_links_lead_back(world: World, output: Path):
    files = store(output)
    assert [(file.path, file.size) for file in files] == [("deep/two", 2), ("one", 1)]
    assert not [path for path in output.rglob("*") if path.is_file()]
    for file in files:
        assert oct(object_path(file.md5).stat().st_mode)[-3:] == "444"
    assert store(write(output, copy="1"))[0].md5 == files[1].md5  # known already
    place(world.data / "toy" / "a", files)
    assert (world.data / "toy/a/deep/two").read_text() == "22"
    assert (world.data / "toy/a/one").stat().st_ino == object_path(files[1].md5).stat().st_ino
    link_inputs(inputs := world.root / "in" / "a", files, "a")
    protect(inputs)
    assert (inputs / "deep" / "two").read_text() == "22"
    assert oct((inputs / "deep").stat().st_mode)[-3:] == "555"
    workspace.remove(inputs)
    assert not inputs.exists()


def test_placing_replaces_what_was_there(world: World, output: Path):
    folder = write(world.data / "toy" / "a", old="old", one="other")
    files = store(output)
    place(folder, files)
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["one", "two"]
    assert not list((world.root / ".work" / "placing").iterdir())


def test_in_place_sees_every_difference(world: World, output: Path):
    folder = world.data / "toy" / "a"
    files = store(output)
    assert not in_place(folder, files)
    place(folder, files)
    assert in_place(folder, files)
    (folder / "more").write_text("")
    assert not in_place(folder, files)
    (folder / "more").unlink()
    (folder / "one").unlink()
    (folder / "one").write_text("1")  # a plain copy is as good
    assert in_place(folder, files)
    (folder / "one").write_text("x")
    assert not in_place(folder, files)


def test_a_stage_must_write_plain_files(world: World, output: Path):
    (output / "link").symlink_to("/etc/hostname")
    with pytest.raises(OrbitforgeError, match="link is no plain file"):
        store(output)
    with pytest.raises(OrbitforgeError, match="must write at least one file"):
        store(Scratch.of("a", None, "key").fresh("output"))


def test_missing_objects_are_named(world: World, output: Path):
    files = (*store(output), File("gone", "ab" * 16, 3))
    assert [file.path for file in missing(files)] == ["gone"]
    with pytest.raises(OrbitforgeError, match=r"a\[000\]: 1 of 3 files.*gone"):
        link_inputs(world.root / "in", files, "a[000]")
    assert not (world.root / "in").exists()


def test_a_file_is_adopted_only_if_it_is_what_the_table_says(world: World):
    mesh = world.data / "source" / "meshes" / "ape.glb"
    md5 = workspace.file_md5(mesh)
    assert adopt(mesh, md5) == mesh.stat().st_size
    assert object_path(md5).read_text() == "mesh of ape"
    mesh.write_text("edited in place")
    assert object_path(md5).read_text() == "mesh of ape"  # a copy: the cache never changes with a user's file
    with pytest.raises(OrbitforgeError, match=r"ape\.glb has md5 .*, its table says 0000"):
        adopt(mesh, "0" * 32)
    with pytest.raises(OrbitforgeError, match=r"lost\.glb is missing"):
        adopt(mesh.with_name("lost.glb"), "0" * 32)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")]
)
def test_a_disk_that_refuses_is_told_in_one_line(
    world: World, output: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "the/disk")

    before = write(world.data / "toy" / "a", old="old")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "move", refuse)
        with pytest.raises(OrbitforgeError, match=f"the/disk: .*{words}") as told:
            store(output)
        assert "\n" not in str(told.value)
    assert not [path for path in (world.root / ".dvc" / "cache").rglob("*") if path.is_file()]
    files = store(output)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        patch.setattr(shutil, "copy2", refuse)
        with pytest.raises(OrbitforgeError, match=words):
            place(world.data / "toy" / "a", files)
    assert (before / "old").read_text() == "old"  # what was there still is
    assert not list((world.root / ".work" / "placing").iterdir())


def test_what_is_set_aside_is_never_overwritten(world: World):
    for text in ("one", "two"):
        set_aside(write(world.data / "toy" / "stray", file=text))
    texts = sorted(path.read_text() for path in (world.root / ".work" / "unclaimed").rglob("file"))
    assert texts == ["one", "two"]


def test_a_killed_process_holds_no_lock(world: World):
    scratch = Scratch.of("a", None, "key")
    script = (
        "import os, sys; from orchestration.workspace import Scratch\n"
        "with Scratch.of('a', None, 'key').held('toy pid 1'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert scratch.holder() == "toy pid 1"
    process.kill()
    process.wait()
    assert scratch.holder() is None
    told: list[str] = []
    with scratch.held("mine", told.append):
        assert told == []


def test_a_lock_in_a_removed_folder_guards_nothing(world: World):
    scratch = Scratch.of("a", None, "key")
    with scratch.held("first"):
        scratch.remove()
        with locked(scratch.folder / "lock", note="second"):
            assert scratch.holder() == "second"
