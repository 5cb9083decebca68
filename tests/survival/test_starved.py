"""Full disks, read-only folders, limits: one line with the way out, nothing lost, and the next run ends as if nothing
had been. ORBITFORGE_SURVIVAL=long fills the disk at many more moments."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import dbapi2

import pytest

from tests.survival.starved import Disk, disk, may_mount, read_only, set_apart
from tests.survival.toys import Told, Toys, fatten

MOMENTS = 20 if os.environ.get("ORBITFORGE_SURVIVAL") == "long" else 3
PAYLOAD = 100_000

pytestmark = pytest.mark.skipif(not may_mount(), reason="needs to mount file systems of its own, as root may")


@dataclass(frozen=True)
class Stale:
    """A project in which much is stale; on disks of its own. `made` is what a run ends with."""

    toys: Toys
    content: Path
    made: dict[str, str]
    before: int
    after: int
    files: tuple[int, int]


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stale]:
    root = tmp_path_factory.mktemp("starved") / "project"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        toys = Toys(root, patch, payload=PAYLOAD)
        assert toys.call("run").code == 0
        toys.world.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
        fatten(toys.world, PAYLOAD)
        content = set_apart(root)
        with disk(root, content) as whole:
            before, inodes = whole.used(), whole.inodes()
            told = toys.call("run")
            assert told.code == 0, told.text
            yield Stale(toys, content, toys.made(), before, whole.used(), (inodes, whole.inodes()))


@pytest.fixture
def toys(stale: Stale) -> Iterator[Toys]:
    """The project on a disk of its own, over the one that a run has finished on."""
    with disk(stale.toys.root, stale.content):
        yield stale.toys


def refused(told: Told, *words: str) -> None:
    """The command said in one line what a person can do."""
    assert told.code == 1, told.text
    assert told.error, told.text
    assert "Traceback" not in told.text, told.text
    assert any(word in told.error for word in words), told.text


def goes_on(stale: Stale) -> None:
    """The next run ends with the same bytes, and the one after that finds nothing to do."""
    told = stale.toys.call("run")
    assert told.code == 0, told.text
    assert stale.toys.made() == stale.made
    assert stale.toys.leftovers() == []
    told = stale.toys.call("run")
    assert "nothing is stale" in told.text, told.text
    assert "put right" not in told.text, told.text


FULL = ("no space left on the disk", "disk is full")


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_disk_that_fills_at_any_moment(stale: Stale, toys: Toys, moment: int):
    small = Disk(toys.root)
    room = (stale.after - stale.before) * (moment + 0.5) / MOMENTS
    small.limit(stale.before + int(room))
    refused(toys.call("run"), *FULL)
    assert toys.leftovers() == []
    told = toys.call("status")  # what needs no room works
    assert told.code == 0, told.text
    small.limit(1 << 30)
    goes_on(stale)


def test_a_disk_without_room_for_more_files(stale: Stale, toys: Toys):
    small = Disk(toys.root)
    small.limit(1 << 30, inodes=stale.files[0] + (stale.files[1] - stale.files[0]) // 2)
    refused(toys.call("run"), *FULL)
    small.limit(1 << 30)
    goes_on(stale)


def small_files(root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAYLOAD // 2, PAYLOAD // 2))


def test_a_limit_on_the_size_of_files(stale: Stale, toys: Toys):
    refused(toys.call("run", before=small_files), *FULL, "may not grow that large")
    goes_on(stale)


def test_folders_that_nobody_can_write_to(stale: Stale, toys: Toys):
    made = toys.made()
    for name in ("data/ledger", "data/toy", "data", ".dvc/cache", ".dvc/tmp", ".work", ".dagster", ".mlflow", ""):
        with read_only(toys.root / name):
            told = toys.call("run")
            refused(told, "is read-only", "no permission", "different file systems")
            assert toys.call("status").code == 0, name
        # what is made is not told, and what is told was made
        made = {folder: version for folder, version in toys.made().items() if made.get(folder) != version} | made
    goes_on(stale)


def test_too_little_memory_is_said(stale: Stale, toys: Toys):
    stage = toys.root / "src" / "toy" / "makes.py"
    true = stage.read_text()
    stage.write_text(true.replace('called(work, "manifest")\n', 'called(work, "manifest")\n    bytearray(1 << 60)\n'))
    refused(toys.call("run"), "manifest failed: there is not enough memory; use fewer workers")
    stage.write_text(true)
    goes_on(stale)


def test_a_database_of_dagster_that_is_damaged_gone_or_kept(stale: Stale, toys: Toys):
    (damaged,) = toys.root.glob(".dagster/**/runs.db")
    good = damaged.read_bytes()
    damaged.write_bytes(b"this is no database" * 100)
    refused(toys.call("run"), "a database is damaged; move .dagster/storage")
    damaged.write_bytes(good)
    with sqlite3.connect(damaged) as other:
        other.execute("begin exclusive")
        refused(toys.call("run", before=impatient), "another process keeps a database locked")
    shutil.rmtree(toys.root / ".dagster")
    told = toys.call("run")
    assert told.code == 0, told.text
    assert stale.toys.made() == stale.made
    assert "nothing is stale" in toys.call("run").text


def impatient(root: Path) -> None:
    """SQLite waits half a minute."""
    true = dbapi2.connect

    def connect(*arguments: object, **named: object) -> sqlite3.Connection:
        return true(*arguments, **{**named, "timeout": 0.2})  # pyright: ignore

    dbapi2.connect = connect  # pyright: ignore[reportAttributeAccessIssue]
    sqlite3.connect = connect  # pyright: ignore[reportAttributeAccessIssue]
