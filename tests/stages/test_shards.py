"""Shards: equal content gives equal bytes, and what is written comes back."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from models.camera import Camera
from stages.shards import Sample, composite, read_shard, write_shard


def sample(name: str, views: int = 3) -> Sample:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (views, 8, 8, 4), dtype=np.uint8)
    return Sample(name, pixels, {"cameras": Camera.orbit(views, 10).numbers().tolist(), "caption": name})


def test_a_shard_comes_back(tmp_path: Path) -> None:
    written = [sample("chair"), sample("lamp", 5)]
    write_shard(tmp_path / "a.tar", written)
    read = list(read_shard(tmp_path / "a.tar"))
    assert [s.id for s in read] == ["chair", "lamp"]
    for before, after in zip(written, read, strict=True):
        np.testing.assert_array_equal(before.views, after.views)
        assert before.meta == after.meta
        np.testing.assert_allclose(after.cameras.pose, before.cameras.pose)


def test_order_and_time_leave_the_bytes_alone(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [sample("x"), sample("yy")])
    write_shard(tmp_path / "b.tar", [sample("yy"), sample("x")])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert all(member.mtime == 0 and member.uid == 0 and member.uname == "" for member in tar)


def test_webdataset_reads_it_as_any_other_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [sample("x")])
    (item,) = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode("rgba8")
    assert item["json"]["caption"] == "x"
    assert item["00.png"].shape == (8, 8, 4)


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [])
    assert list(read_shard(tmp_path / "a.tar")) == []


@pytest.mark.parametrize("names", [("a", "a"), ("a.b",)])
def test_ids_that_would_collide_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="repeats or holds a dot"):
        write_shard(tmp_path / "a.tar", [sample(name) for name in names])


def test_views_without_cameras_are_refused(tmp_path: Path) -> None:
    broken = Sample("x", sample("x").views, {"cameras": []})
    write_shard(tmp_path / "a.tar", [broken])
    with pytest.raises(ValueError, match="x has 3 views but 0 cameras"):
        list(read_shard(tmp_path / "a.tar"))


def test_composite_is_white_where_nothing_is() -> None:
    views = np.zeros((1, 2, 2, 4), dtype=np.uint8)
    views[0, 0, 0] = (255, 0, 0, 255)
    image = composite(views)
    assert image.shape == (1, 3, 2, 2)
    np.testing.assert_array_equal(image[0, :, 0, 0], (1, 0, 0))
    np.testing.assert_array_equal(image[0, :, 1, 1], (1, 1, 1))
