"""Clips and their cameras: playlists that fetch, pictures from elsewhere, poses that are none."""

from __future__ import annotations

import json
from typing import Any

import av
import numpy as np

from models.camera import Camera
from tests.hostile.case import Attack, Place
from tests.hostile.images import PNG, bomb_png, eps, huge_gif, saved, square

FRAMES = 4
POSES = Camera.orbit(FRAMES, 6.0).pose.tolist()


def transforms(**changes: Any) -> dict[str, Any]:
    frames = [{"file_path": f"{k}.png", "transform_matrix": POSES[k]} for k in range(FRAMES)]
    return {"camera_angle_x": 0.8, "w": 64, "h": 64, "frames": frames} | changes


def posed(pose: Any, **changes: Any) -> dict[str, Any]:
    return transforms(frames=[{"file_path": f"{k}.png", "transform_matrix": pose} for k in range(FRAMES)], **changes)


def _frames(
    name: str, told: Any = None, *, row: dict[str, Any] | None = None, pictures: Any = None, harmless: str = ""
) -> Attack:
    """A folder `clip` of four frames, with what transforms.json or the table says of it."""

    def make(place: Place) -> dict[str, Any]:
        folder = place.given / "clip"
        folder.mkdir()
        for number, data in enumerate(
            (pictures() if callable(pictures) else pictures) or [saved(square().rotate(90 * k)) for k in range(FRAMES)]
        ):
            (folder / f"{number}.png").write_bytes(data)
        if told is not None:
            text = told if isinstance(told, bytes | str) else json.dumps(told)
            (folder / "transforms.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        return {"clip": "clip"} | (row or {})

    return Attack(name, make, harmless)


def _video(name: str, data: bytes | str, called: str = "a.mp4", harmless: str = "") -> Attack:
    def make(place: Place) -> dict[str, Any]:
        text = data.replace("MARK", str(place.root)) if isinstance(data, str) else data
        (place.given / called).write_bytes(text if isinstance(text, bytes) else text.encode())
        (place.root / "secret.mp4").write_bytes(_mp4())
        return {"clip": called}

    return Attack(name, make, harmless)


def _mp4(frames: int = FRAMES, size: int = 32) -> bytes:
    import io

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _row(name: str, harmless: str = "", **facts: Any) -> Attack:
    return _frames(name, row=facts, harmless=harmless)


def _linked(place: Place) -> dict[str, Any]:
    outside = place.root / "outside"
    outside.mkdir()
    for number in range(FRAMES):
        (outside / f"{number}.png").write_bytes(PNG)
    (place.given / "clip").symlink_to(outside)
    return {"clip": "clip"}


def _linked_frame(place: Place) -> dict[str, Any]:
    (place.root / "secret.png").write_bytes(PNG)
    folder = place.given / "clip"
    folder.mkdir()
    for number in range(FRAMES):
        (folder / f"{number}.png").symlink_to(place.root / "secret.png")
    return {"clip": "clip"}


def _eps(place: Place) -> dict[str, Any]:
    (place.given / "clip").mkdir()
    for number in range(FRAMES):
        (place.given / "clip" / f"{number}.png").write_bytes(eps(place))
    return {"clip": "clip"}


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
ZEROS, BIG = [[0.0] * 4] * 4, [[1e30] * 4] * 4
NAN = [[float("nan")] * 4] * 4
MIRROR = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
FAR = [[1, 0, 0, 1e39], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
TAKEN = "four frames, and nothing else was read"

CAMERAS = (
    ("100,000 brackets", "[" * 100_000),
    ("bytes", b"\xff\xfe\x80"),
    ("a list", [1, 2]),
    ("frames that are a number", transforms(frames=5)),
    ("frames that are numbers", transforms(frames=[1, 2, 3, 4])),
    ("no frames", transforms(frames=[])),
    ("poses of NaN", json.dumps(posed(NAN))),
    ("poses of zero", posed(ZEROS)),
    ("poses of 10^30", posed(BIG)),
    ("poses that are mirrored", posed(MIRROR)),
    ("poses that are far beyond float32", posed(FAR)),
    ("poses of text", posed([["a"] * 4] * 4)),
    ("poses of ragged rows", posed([[1, 2], [3]])),
    ("poses of 5,000 digits", json.dumps(transforms()).replace("0.0", "9" * 5000, 1)),
    ("a focal length of NaN", json.dumps(transforms(camera_angle_x=float("nan")))),
    ("a focal length of zero", transforms(camera_angle_x=0)),
    ("a focal length below zero", transforms(camera_angle_x=-1)),
    ("a focal length of text", transforms(camera_angle_x="wide")),
    ("a focal length of 10^300", transforms(fl_x=1e300)),
    ("a width of zero", transforms(fl_x=50, w=0)),
    ("a width of infinity", json.dumps(transforms(fl_x=50, w=7.5)).replace("7.5", "1e999")),
    ("a centre of NaN", json.dumps(transforms(fl_x=50, cx=float("nan")))),
    ("a file above", transforms(frames=[{"file_path": "../../secret.png", "transform_matrix": POSES[0]}] * 4)),
    ("a file by absolute name", transforms(frames=[{"file_path": "/etc/passwd", "transform_matrix": POSES[0]}] * 4)),
    ("a file with NUL", transforms(frames=[{"file_path": "a\0.png", "transform_matrix": POSES[0]}] * 4)),
    ("a file of 5,000 letters", transforms(frames=[{"file_path": "a" * 5000, "transform_matrix": POSES[0]}] * 4)),
    ("a file of a lone surrogate", transforms(frames=[{"file_path": "\ud800.png", "transform_matrix": POSES[0]}] * 4)),
    ("a file that is a list", transforms(frames=[{"file_path": ["a"], "transform_matrix": POSES[0]}] * 4)),
    ("a file of nothing", transforms(frames=[{"file_path": "", "transform_matrix": POSES[0]}] * 4)),
)
"""What transforms.json may say, for clips and for views alike."""

ATTACKS = (
    _frames("transforms as they should be", transforms(), harmless=TAKEN),
    _frames("a good clip", harmless=TAKEN),
    _video("a good video", _mp4(), harmless=TAKEN),
    *(_frames(f"transforms with {name}", told) for name, told in CAMERAS),
    _row("camera of 100,000 brackets", camera="[" * 100_000),
    _row("camera of words", camera="__import__('os').system('x')"),
    _row("camera of NaN", camera=json.dumps([[float("nan")] * 16] * FRAMES)),
    _row("camera of zeros", camera=json.dumps([[0.0] * 16] * FRAMES)),
    _row("camera of 10^30", camera=json.dumps([[1e30] * 16] * FRAMES)),
    _row("camera of 5,000 digits", camera="9" * 5000),
    _row("elevation of NaN", elevation="nan"),
    _row("elevation of infinity", elevation="-inf"),
    _row("elevation of 10^300", elevation="1e300"),
    _row("elevation of words", elevation="up"),
    _row("frames of infinity", frames="inf"),
    _row("frames of NaN", frames="nan"),
    _row("frames of 10^300", frames="1e300"),
    _row("frames below zero", frames="-5", harmless=TAKEN),
    _row("clip above the folder", clip="../" * 12 + "etc"),
    _row("clip by absolute name", clip="/etc"),
    _row("clip with NUL", clip="a\0b"),
    _row("clip of 5,000 letters", clip="a" * 5000),
    _row("clip that is the folder", clip="."),
    _row("clip of escape sequences", clip="\x1b[2J\x1b]0;x\x07"),
    _row("clip of markup", clip="[/bold]"),
    _row("creator of escape sequences", creator="\x1b]0;x\x07"),
    _row("creator that turns its direction", creator="\u202eevil"),
    _row("creator of a formula", creator="=cmd|' /C calc'!A0", harmless="text in Parquet, which no spreadsheet runs"),
    _row("licence of escape sequences", licence="\x1b[31mCC0"),
    _row("text of control characters", text="a \x1b[31mchair"),
    _row("text of a formula", text="=1+1"),
    Attack("clip is a link out of the folder", _linked),
    Attack("frames are links out of the folder", _linked_frame),
    Attack("frames are programs for Ghostscript", _eps),
    _frames("frames of 60,000 x 60,000", pictures=lambda: [bomb_png(60_000, 60_000)] * 4),
    _frames("frames of 13,000 x 13,000", pictures=lambda: [bomb_png(13_000, 13_000, 13_000)] * 4),
    _frames("frames of half a png", pictures=[PNG[:60]] * 4),
    _frames("frames of other sizes", pictures=[saved(square(32)), *[saved(square(64))] * 3]),
    _frames("3,000 frames", pictures=lambda: [PNG] * 3000, harmless="four of them, evenly spaced"),
    _video("video that is a playlist of a file", PLAYLIST.format("file://MARK/secret.mp4")),
    _video("video that is a playlist from the net", PLAYLIST.format("http://127.0.0.1:9/a.ts")),
    _video("video that is a list to join", "ffconcat version 1.0\nfile 'MARK/secret.mp4'\n"),
    _video("gif that is a list to join", "ffconcat version 1.0\nfile secret.mp4\n", "a.gif"),
    _video(
        "avi that is a playlist of the passwords", PLAYLIST.format("concat:MARK/secret.mp4|file:///etc/passwd"), "a.avi"
    ),
    _video(
        "video that is a description of a session",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    ),
    _video("video that is text", "\x1b[31mtext"),
    _video("video of noise", np.random.default_rng(0).bytes(5000)),
    _video("video cut short", _mp4()[:300]),
    _video("video of one frame", _mp4(1)),
    _video("video that is empty", b""),
    _video("gif of 65,535 x 65,535", huge_gif(), "a.gif"),
    _video("video that is a pickle", b"\x80\x04cos\nsystem\n."),
    _video("video of an unknown ending", _mp4(), "a.exe"),
    _video("video called by escape sequences", b"", "\x1b[31m\x07.mp4"),
)
