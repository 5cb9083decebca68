"""Where objects come from: folders, libraries and archives of other people, and Objaverse behind a stand-in."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import InputError
from stages.objects.collections import archive, objaverse
from stages.objects.collections.archive import ArchiveError, unpack
from stages.objects.collections.folder import Folder
from stages.objects.collections.item import Item, captioned, plain_id
from stages.objects.collections.objaverse import Objaverse
from stages.objects.collections.open import open_collection
from stages.objects.collections.screen import screened
from stages.objects.collections.sweethome3d import Library, read_catalogue

CATALOGUE = """# a comment
id=SweetHome3D#Toys
name=Toys
version=1.2
license=Public domain
name#1=Caf\\u00e9 chair
category#1=Kitchen
creator#1=Zo\\u00eb
id#1=Toys#chair
model#1=/toys/chair.obj
modelRotation#1=1 0 0 0 0 1 0 -1 0
name#2=Gone
creator#2=Bo
id#2=Toys#gone
model#2=/toys/gone.obj
name#10=Sly
id#10=Toys#sly
creator#10=Bo
model#10=/../sly.obj
"""


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def library(path: Path) -> Path:
    members = {
        "PluginFurnitureCatalog.properties": CATALOGUE.encode("latin-1"),
        "LICENSE.TXT": "under http://creativecommons.org/choose/zero/",
        "toys/chair.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    }
    return zipped(path, members)


def listed(items) -> dict[str, Item]:
    return {item.file: item for item in items}


# folders


def test_a_folder_is_searched_and_told_of_by_its_table(tmp_path: Path) -> None:
    home = tmp_path / "in"
    for file in ("a.glb", "b/Oak_chair-2.OBJ", "b/c/d.ply", "e.fbx", "notes.txt", ".hidden/f.glb"):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_bytes(b"")
    (home / "objects.csv").write_text(
        "file,caption,license,author,id\na.glb,a red ape,by,Ada,ape\nabsent.glb,,,,\nb/c/d.ply,,CC0,,\n"
    )
    items = listed(Folder(home).items(tmp_path))
    assert list(items) == ["a.glb", "e.fbx", "b/Oak_chair-2.OBJ", "b/c/d.ply", "absent.glb"]
    ape, chair, dot = items["a.glb"], items["b/Oak_chair-2.OBJ"], items["b/c/d.ply"]
    assert (ape.id, ape.caption, ape.licence, ape.creator) == ("ape", "a red ape", "CC-BY-4.0", "Ada")
    assert (chair.caption, chair.licence, chair.creator) == ("an oak chair 2", "unknown", "unknown")
    assert dot.licence == "CC0-1.0"
    assert items["e.fbx"].reason == "unsupported: .fbx files; convert it to .glb"
    assert items["absent.glb"].reason == "unreadable: the table names it, the folder lacks it"


def test_a_table_without_files_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text("name\nape\n")
    with pytest.raises(InputError, match=r"objects\.csv has no column `file`"):
        list(Folder(tmp_path).items(tmp_path))


@given(st.sets(st.text(min_size=1, max_size=90), min_size=2, max_size=8))
def test_ids_are_plain_short_and_their_own(names: set[str]) -> None:
    ids = {plain_id(name, name) for name in names}
    assert len(ids) == len(names)
    assert all(id_.isascii() and "." not in id_ and "/" not in id_ and len(id_) < 80 for id_ in ids)


def test_what_no_one_can_open_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is no folder, \.sh3f library or objaverse:COUNT"):
        open_collection("nowhere", state=tmp_path)
    with pytest.raises(InputError, match="neither a number of objects nor a file"):
        open_collection("objaverse:many", state=tmp_path)


def test_repeated_ids_and_licences_are_screened() -> None:
    items = [Item(id_, f"{n}.glb", Path(), "", licence) for n, (id_, licence) in enumerate(
        [("a", "CC0-1.0"), ("a", "CC0-1.0"), ("a", "CC0-1.0"), ("b", "CC-BY-NC-4.0"), ("c", "cc-by-3.0")])]  # fmt: skip
    found = list(screened(items, ["CC0-*", "CC-BY-3.0"]))
    assert [item.id for item in found] == ["a", "a-repeated1", "a-repeated2", "b", "c"]
    assert [item.reason for item in found] == [
        None, "repeated id: 0.glb has it", "repeated id: 0.glb has it", "licence not allowed: CC-BY-NC-4.0", None
    ]  # fmt: skip


# libraries


def test_a_library_is_read_by_its_catalogue(tmp_path: Path) -> None:
    items = list(Library(library(tmp_path / "toys.sh3f"), "toys.sh3f").items(tmp_path / "scratch"))
    chair, gone, sly = items
    assert (chair.id, chair.file, chair.caption) == ("Toys-chair", "toys.sh3f/toys/chair.obj", "a café chair")
    assert (chair.licence, chair.creator, chair.source) == ("CC0-1.0", "Zoë", "Sweet Home 3D library Toys 1.2")
    assert chair.rotation == (1, 0, 0, 0, 0, 1, 0, -1, 0)
    assert chair.path
    assert chair.path.is_file()
    assert gone.reason == "unreadable: '/toys/gone.obj' is not in the archive"
    assert sly.reason == "refused: '/../sly.obj' leaves the archive's folder"


def test_a_catalogue_is_java_properties() -> None:
    told, pieces = read_catalogue(b"name = A\nname#2 : two\\\n   lines\nname#1=\\u0041\\:b\n\nno property")
    assert told == {"name": "A"}
    assert pieces == [{"name": "A:b"}, {"name": "twolines"}]


# archives


def bomb(path: Path) -> Path:
    return zipped(path, {"bomb.obj": b"\0" * 60_000_000})


def lying(path: Path) -> Path:
    """A member that is larger than the directory says."""
    data = zipped(path, {"a.obj": b"v 0 0 0\n" * 9000}).read_bytes()
    size = struct.pack("<I", 72000)
    path.write_bytes(data.replace(size, struct.pack("<I", 10)))
    return path


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"../evil.obj": ""}, "refused: the member '../evil.obj' leaves"),
        ({"a/../../evil.obj": ""}, "refused: the member 'a/../../evil.obj' leaves"),
        ({"/etc/evil.obj": ""}, "refused: the member '/etc/evil.obj' leaves"),
        ({"C:/evil.obj": ""}, "refused: the member 'C:/evil.obj' leaves"),
        ({"..\\evil.obj": ""}, "refused: the member"),
    ],
)
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, members: dict[str, str | bytes], told: str) -> None:
    with pytest.raises(ArchiveError, match=told.replace("\\", ".")):
        unpack(zipped(tmp_path / "a.zip", members), tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()
    assert not list(tmp_path.rglob("evil.obj"))


def test_bombs_links_and_lies_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArchiveError, match=r"60000000 bytes packed into .*, an archive bomb"):
        unpack(bomb(tmp_path / "bomb.zip"), tmp_path / "out")
    link = zipfile.ZipInfo("link.obj")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match=r"'link\.obj' is a link"):
        unpack(tmp_path / "link.zip", tmp_path / "out")
    with pytest.raises(ArchiveError, match=r"unreadable|larger than it says"):
        unpack(lying(tmp_path / "lying.zip"), tmp_path / "out")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ArchiveError, match="unreadable: BadZipFile"):
        unpack(tmp_path / "text.zip", tmp_path / "out")
    monkeypatch.setattr(archive, "MEMBERS", 1)
    with pytest.raises(ArchiveError, match="2 members, more than 1"):
        unpack(zipped(tmp_path / "many.zip", {"a": "", "b": ""}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_in_a_folder_are_opened_or_told_of(tmp_path: Path) -> None:
    home = tmp_path / "in"
    home.mkdir()
    library(home / "toys.sh3f")
    zipped(home / "good.zip", {"x/a.stl": b"", "readme.txt": ""})
    zipped(home / "evil.zip", {"../evil.obj": ""})
    zipped(home / "empty.sh3f", {"a.txt": ""})
    items = listed(Folder(home).items(tmp_path / "scratch"))
    assert items["toys.sh3f/toys/chair.obj"].path
    assert items["good.zip/x/a.stl"].path
    assert (items["evil.zip"].reason or "").startswith("refused: ")
    assert items["empty.sh3f"].reason == "unreadable: holds no PluginFurnitureCatalog.properties"


# Objaverse

STAND_IN = '''
"""The functions of the objaverse package, over files: what is called "slow" hangs, "flaky" fails once, "bad" always."""
import pathlib, time
HOME = pathlib.Path(r"{home}")

def load_uids():
    return ["u0", "u1", "flaky", "bad", "u2", "slow", "private", "u3"]

def load_annotations(uids):
    licence = {{"private": "by-nc"}}
    return {{u: {{"name": "Oak " + u, "license": licence.get(u, "by"), "user": {{"username": "ada"}},
                  "categories": [{{"name": "toys"}}], "viewerUrl": "https://example.org/" + u}}
            for u in uids if u != "u3"}}

def load_objects(uids, download_processes=1):
    print("loading", uids)
    out = {{}}
    for uid in uids:
        with (HOME / "asked").open("a") as file:
            file.write(uid + "\\n")
        if uid == "slow":
            time.sleep(600)
        if uid == "bad" or uid == "flaky" and not (HOME / "flaky").exists():
            (HOME / "flaky").touch()
            raise OSError("HTTP Error 503: " + uid)
        path = HOME / (uid + ".glb")
        path.write_bytes(b"glTF")
        out[uid] = str(path)
    return out
'''


def test_objaverse_survives_what_its_package_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "objaverse.py").write_text(STAND_IN.format(home=tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    source = Objaverse(tmp_path / "state.jsonl", count=8, licences=["cc-by-4*"], chunk=3, seconds=1, retries=2)
    items = {item.id: item for item in source.items(tmp_path)}
    assert list(items) == ["u0", "u1", "flaky", "bad", "u2", "slow", "private", "u3"]
    assert {id_ for id_, item in items.items() if item.path} == {"u0", "u1", "flaky", "u2"}
    assert items["bad"].reason == "download failed: objaverse: OSError: HTTP Error 503: bad"
    assert "too slow: still waiting after 1 s" in (items["slow"].reason or "")
    assert items["private"].reason == "licence not allowed: it was not downloaded"
    assert items["u3"].reason == "download failed: the package knows no such object"
    assert (items["u0"].caption, items["u0"].licence, items["u0"].creator) == ("an oak u0", "CC-BY-4.0", "ada")
    asked = (tmp_path / "asked").read_text().split()
    assert "private" not in asked
    # again: what is there is not asked for again
    (tmp_path / "asked").unlink()
    again = {item.id for item in source.items(tmp_path) if item.path}
    assert again == {"u0", "u1", "flaky", "u2"}
    assert set((tmp_path / "asked").read_text().split()) == {"bad", "slow"}
    rows = [json.loads(line) for line in (tmp_path / "state.jsonl").read_text().splitlines()]
    assert {row["uid"] for row in rows if "path" in row} == again


def test_objaverse_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objaverse.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install orbitforge\[objaverse\]"):
        list(Objaverse(tmp_path / "state", count=1).items(tmp_path))


def test_captions_have_an_article() -> None:
    assert [captioned(name) for name in ("Oak chair", "Table", " ")] == ["an oak chair", "a table", "an object"]
