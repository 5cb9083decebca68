"""Collections taken into a source folder: what is kept, what is refused, and what stays when more arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import trimesh
from PIL import Image

from models.camera import Camera
from stages.objects import intake
from stages.objects.collections.folder import Folder
from stages.objects.collections.item import Item
from stages.objects.collections.screen import screened
from stages.objects.config import SourceConfig
from stages.objects.convert import convert
from stages.objects.intake import take_in
from stages.objects.sources import OBJECTS, read_table
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import MeshError, load_mesh
from stages.rendering.rasterise import render
from tests.stages.misbehaving import never

CONFIG = RenderingConfig.model_validate({"size": 32, "views": 4})
OBJ = """mtllib a.mtl
v 0 0 0\nv 1 0 0\nv 1 2 0\nv 0 2 0\nv 0 0 3\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
usemtl wood
f 1/1 2/2 3/3 4/4
usemtl glass
f 1 2 5
"""


def write_obj(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.obj").write_text(OBJ)
    (folder / "a.mtl").write_text("newmtl wood\nKd 1 1 1\nmap_Kd wood.png\nnewmtl glass\nKd 0.2 0.3 0.9\nd 0.5\n")
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "wood.png")
    return folder / "a.obj"


def box(folder: Path, name: str, size: tuple[float, float, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box(size).export(folder / name)


def items(folder: Path) -> list[Item]:
    return list(screened(Folder(folder).items(folder / ".scratch")))


def table(folder: Path) -> pl.DataFrame:
    return read_table(folder.parent, SourceConfig.model_validate({"folder": folder.name}), OBJECTS)


def test_a_converted_object_looks_as_the_file_does(tmp_path: Path) -> None:
    path = write_obj(tmp_path)
    made = convert(path, tmp_path / "a.glb", CONFIG)
    assert made.faces == 3
    cameras = Camera.orbit(4, 20)
    before, after = (render(load_mesh(each, CONFIG), cameras, CONFIG).rgba for each in (path, tmp_path / "a.glb"))
    # the glass, a fifth of the picture at most, is whole before where a loader forgets its `d`
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 12
    geometry = trimesh.load_scene(tmp_path / "a.glb").geometry
    part = {name: each.visual.material for name, each in geometry.items()}
    assert part["glass"].alphaMode == "BLEND"
    assert part["glass"].baseColorFactor[3] == 128
    assert part["wood"].alphaMode in (None, "OPAQUE")
    first = (tmp_path / "a.glb").read_bytes()
    convert(path, tmp_path / "a.glb", CONFIG)
    assert (tmp_path / "a.glb").read_bytes() == first


def test_a_turned_object_is_written_upright(tmp_path: Path) -> None:
    box(tmp_path, "a.ply", (1, 2, 5))
    turn = (1, 0, 0, 0, 0, 1, 0, -1, 0)
    convert(tmp_path / "a.ply", tmp_path / "a.glb", CONFIG, turn)
    np.testing.assert_allclose(trimesh.load_scene(tmp_path / "a.glb").extents, (1, 5, 2), atol=1e-6)


def test_a_folder_grows_and_nothing_moves(tmp_path: Path) -> None:
    come, data = tmp_path / "in", tmp_path / "data" / "mine"
    for number in range(5):
        box(come, f"box{number}.stl", (1, 2, 3 + number))
    (come / "broken.glb").write_text("no mesh")
    first = take_in(items(come), data, shard_size=2)
    assert (first.objects, first.taken, first.quarantined) == (5, 5, {"unreadable": 1})
    before = table(data)
    assert (before["faces"] == 12).all()
    box(come, "late.glb", (1, 5, 9))
    box(come, "again.ply", (2, 6, 4))  # the first box, turned, of twice its size
    second = take_in(items(come), data, shard_size=2)
    assert (second.objects, second.quarantined) == (6, {"near-duplicate": 1, "unreadable": 1})
    after = table(data)
    assert before.rows() == [row for row in after.rows() if "late" not in row[0]]
    assert after.filter(pl.col("id").str.starts_with("late"))["shard"].item() == "003"
    broken = pl.read_parquet(data / "quarantine.parquet")
    first_box = next(id_ for id_ in before["id"] if id_.startswith("box0"))
    assert broken.filter(pl.col("file") == "again.ply")["error"].item() == f"of {first_box}"
    assert sorted(path.stem for path in (data / "meshes").iterdir()) == sorted(after["id"])
    # another collection in the same folder leaves the rows of the first
    box(tmp_path / "other", "ball.ply", (1, 1, 7))
    assert take_in(items(tmp_path / "other"), data, shard_size=2).objects == 7


def test_what_was_taken_in_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    come, data = tmp_path / "in", tmp_path / "data" / "mine"
    box(come, "a.stl", (1, 2, 3))
    (come / "broken.glb").write_text("no mesh")
    take_in(items(come), data)
    (data / "objects.parquet").unlink()  # as if it had been killed before the end
    monkeypatch.setattr(intake, "convert", never)
    assert take_in(items(come), data).objects == 1


def test_a_changed_file_is_taken_anew_and_a_bad_one_leaves_the_table(tmp_path: Path) -> None:
    come, data = tmp_path / "in", tmp_path / "data" / "mine"
    box(come, "a.stl", (1, 2, 3))
    take_in(items(come), data)
    before = table(data)
    box(come, "a.stl", (1, 2, 4))
    take_in(items(come), data)
    assert table(data)["md5"].item() != before["md5"].item()
    (come / "a.stl").write_bytes(b"")
    assert take_in(items(come), data).objects == 0


def test_items_with_reasons_become_rows(tmp_path: Path) -> None:
    item = Item("a", "a.fbx", None, "an a", reason="unsupported: .fbx")
    take_in([item, replace(item, id="b", path=tmp_path / "absent.glb", reason=None)], tmp_path / "mine")
    reasons = pl.read_parquet(tmp_path / "mine" / "quarantine.parquet")["reason"].to_list()
    assert reasons == ["unsupported", "unreadable"]


def test_conversion_refuses_what_rendering_refuses(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"unreadable: a\.glb is missing"):
        convert(tmp_path / "a.glb", tmp_path / "b.glb", CONFIG)
