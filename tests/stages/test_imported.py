"""Clips that were made elsewhere: taken in with their cameras and licence, or quarantined with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import pytest
from PIL import Image

from models.camera import Camera
from models.video import build_video
from stages.corpus.clip_files import ClipFormat
from stages.corpus.config import CorpusConfig
from stages.corpus.generate import generate_shard
from stages.corpus.imported import ClipIntake, brought, take_in_clips
from stages.errors import InputError
from stages.objects.config import SourceConfig
from stages.objects.sources import PROMPTS, read_table
from stages.prompts.screen import ScreenConfig
from stages.rendering.config import RenderingConfig
from stages.shards import read_shard
from tests.stages.test_video import VIDEO

FORM = ClipFormat(frames=8, size=32, radius=1.5, focal=0.75)


def frame(number: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Its red tells its number."""
    return Image.new("RGB", size, (30 * number, 0, 90))


def write_video(path: Path, count: int = 16) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"  # pyright: ignore[reportAttributeAccessIssue]
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(frame(number // 2))))  # pyright: ignore
        container.mux(stream.encode())  # pyright: ignore[reportAttributeAccessIssue]


def write_frames(folder: Path, numbers: range | list[int]) -> None:
    folder.mkdir()
    for number in numbers:
        frame(number).save(folder / f"{number:03d}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A video, a folder of frames with cameras, and much that cannot be taken."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    write_video(folder / "turn.mp4")
    write_frames(folder / "posed", range(8))
    poses = Camera.orbit(8, 30.0).pose.tolist()
    frames = [{"file_path": f"{k:03d}.png", "transform_matrix": pose} for k, pose in enumerate(poses)]
    (folder / "posed" / "transforms.json").write_text(
        json.dumps({"camera_angle_x": 1.176, "w": 48, "h": 32, "frames": frames})
    )
    write_frames(folder / "gap", [0, 1, 2, 4, 5, 6, 7, 8, 9])
    write_frames(folder / "short", range(5))
    (folder / "torn.mp4").write_bytes(b"no video")
    write_frames(folder / "odd", range(8))
    write_frames(folder / "unlicensed", range(8))
    write_frames(folder / "unlisted", range(8))
    return folder


ROWS: list[dict[str, Any]] = [
    {"clip": "turn.mp4", "text": "a turning thing", "licence": "CC-BY-4.0", "elevation": "10"},
    {"clip": "posed", "text": "a posed thing", "licence": "CC0-1.0"},
    {"clip": "gap", "text": "a thing with a gap", "licence": "CC0-1.0"},
    {"clip": "short", "text": "a short thing", "licence": "CC0-1.0"},
    {"clip": "torn.mp4", "text": "a torn thing", "licence": "CC0-1.0"},
    {"clip": "odd", "text": "an odd thing", "licence": "CC0-1.0", "camera": "from somewhere"},
    {"clip": "unlicensed", "text": "a thing of nobody", "licence": ""},
    {"clip": "../outside", "text": "a thing outside", "licence": "CC0-1.0"},
    {"clip": "gone", "text": "a thing that is gone", "licence": "CC0-1.0"},
    {"clip": "posed", "text": "the posed thing again", "licence": "CC0-1.0"},
]


def take(folder: Path, home: Path, rows: list[dict[str, Any]] = ROWS) -> ClipIntake:
    table = folder.parent / "table.csv"
    pl.DataFrame(rows, infer_schema_length=None).write_csv(table)
    return take_in_clips(
        folder, table, home, FORM, licence=None, creator="Ada", unsafe=(), screen=ScreenConfig(), shard_size=1
    )


def test_all_clips_are_taken_or_quarantined_with_a_reason(folder: Path, tmp_path: Path) -> None:
    intake = take(folder, tmp_path / "mine")
    assert (intake.clips, intake.taken) == (2, 2)
    broken = pl.read_parquet(tmp_path / "mine" / "clips-quarantine.parquet")
    why = dict(broken.select("clip", "reason").iter_rows())
    assert why["gap"] == why["short"] == "missing frames"
    assert why["torn.mp4"] == "undecodable"
    assert why["odd"] == "unknown camera"
    assert why["unlicensed"] == "no licence"
    assert why["../outside"] == "refused"
    assert why["gone"] == "missing"
    assert why["unlisted"] == "not in the table"
    assert why["posed"] == "listed twice"
    assert sum(intake.quarantined.values()) == len(broken) == len(ROWS) - 2 + 1  # and the unlisted one


def test_frames_and_cameras_are_those_of_the_clip(folder: Path, tmp_path: Path) -> None:
    take(folder, tmp_path / "mine")
    prompts = read_table(tmp_path, SourceConfig(folder="mine"), PROMPTS)
    samples = {row["text"]: next(read_shard(tmp_path / "mine" / row["file"])) for row in prompts.to_dicts()}
    turn, posed = samples["a turning thing"], samples["a posed thing"]
    for sample in (turn, posed):
        assert sample.views.shape == (8, 32, 32, 4)
        assert np.abs(sample.views[:, 16, 16, 0].astype(int) - 30 * np.arange(8)).max() < 12
        assert (sample.views[:, 0, 0] == 255).all()  # widened with white
    assert turn.meta["licence"] == "CC-BY-4.0"
    assert turn.meta["elevation"] == 10
    np.testing.assert_allclose(turn.cameras.pose, Camera.orbit(8, 10.0, 1.5, 0.75).pose, atol=1e-6)
    np.testing.assert_allclose(posed.cameras.pose, Camera.orbit(8, 30.0).pose, atol=1e-6)
    focal = 0.5 / np.tan(0.5 * 1.176)  # over the width, which stays when the frame is widened in height
    np.testing.assert_allclose(posed.cameras.intrinsics[0], [focal, focal, 0.5, 0.5], rtol=1e-5)


def test_taken_in_again_they_keep_their_shards(folder: Path, tmp_path: Path) -> None:
    take(folder, tmp_path / "mine")
    before = pl.read_parquet(tmp_path / "mine" / "prompts.parquet")
    write_frames(folder / "more", range(8))
    again = take(folder, tmp_path / "mine", [*ROWS, {"clip": "more", "text": "one more", "licence": "CC0-1.0"}])
    after = pl.read_parquet(tmp_path / "mine" / "prompts.parquet")
    assert len(again.shards) == 1
    assert after.filter(pl.col("id").is_in(before["id"].implode())).equals(before)


def test_the_corpus_takes_them_as_they_are(folder: Path, tmp_path: Path) -> None:
    take(folder, tmp_path / "mine")
    prompts = pl.read_parquet(tmp_path / "mine" / "prompts.parquet")
    samples, rest = brought(prompts.to_dicts(), tmp_path / "mine")
    assert rest == []
    build_video(VIDEO).save(tmp_path / "model")
    (tmp_path / "out").mkdir()
    generate_shard(
        prompts,
        tmp_path / "mine",
        tmp_path / "model",
        tmp_path / "out",
        CorpusConfig(),
        RenderingConfig(size=32),
        seed=0,
        report=lambda _: None,
    )
    made = {sample.id: sample for sample in read_shard(tmp_path / "out" / "clips.tar")}
    assert made.keys() == {sample.id for sample in samples}
    for sample in samples:
        np.testing.assert_array_equal(made[sample.id].views, sample.views)
        assert made[sample.id].meta == sample.meta


def test_a_table_that_describes_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    for text, why in (("clip,text\n", "describes no clip"), ("file\nx\n", "lacks the columns clip, text")):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match=why):
            take_in_clips(
                folder,
                tmp_path / "t.csv",
                tmp_path / "mine",
                FORM,
                licence=None,
                creator=None,
                unsafe=(),
                screen=ScreenConfig(),
                shard_size=1,
            )


def test_a_later_import_keeps_what_was_refused_before(folder: Path, tmp_path: Path) -> None:
    take(folder, tmp_path / "mine")
    other = tmp_path / "others"
    other.mkdir()
    write_frames(other / "more", range(8))
    write_frames(other / "gap", range(8))  # is whole now
    rows = [{"clip": name, "text": f"a thing called {name}", "licence": "CC0-1.0"} for name in ("more", "gap", "new")]
    again = take(other, tmp_path / "mine", rows)
    why = dict(pl.read_parquet(tmp_path / "mine" / "clips-quarantine.parquet").select("clip", "reason").iter_rows())
    assert again.taken == 2
    assert (why["torn.mp4"], why["new"]) == ("undecodable", "missing")
    assert "gap" not in why
