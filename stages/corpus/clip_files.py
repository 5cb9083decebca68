"""Reading one clip that was made elsewhere: a video, or a folder of frames, with what is said about its cameras."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from models.camera import Camera
from stages.documents import read_json
from stages.pictures import open_picture
from stages.poses import FARTHEST, off_orthonormal

VIDEOS = (".mp4", ".webm", ".gif", ".mov", ".mkv", ".avi", ".m4v")
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi"
"""FFmpeg's readers of such files."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TRANSFORMS = "transforms.json"
ORBIT, CLOCKWISE, GIVEN = "orbit", "orbit-clockwise", "transforms"
CAMERAS = (ORBIT, CLOCKWISE, GIVEN)
"""What the column `camera` may say; it may also hold 16 numbers a frame, as JSON."""


class ClipError(ValueError):
    """A clip that cannot be taken, `reason: error`."""


@dataclass(frozen=True)
class ClipFormat:
    """The clips that the corpus is made of, and the cameras of an orbit where nothing else is said."""

    frames: int
    size: int
    radius: float
    focal: float


def read_clip_file(
    path: Path, camera: str, expected: int | None, elevation: float | None, form: ClipFormat
) -> tuple[UInt8[np.ndarray, "f s s 4"], list[list[float]]]:
    """The clip in the form of the corpus, opaque on white, and 16 numbers for the camera of each frame.

    Of more frames than `form.frames`, evenly spaced ones are taken, the first among them; frames that are not square
    are widened with white, and the focal lengths follow. `expected` is the number of frames that should be there.
    Raises ClipError for a clip that is missing, lacks frames or cannot be decoded, and for cameras that are unknown.
    """
    given = _transforms(path) if camera == GIVEN else None
    frames = _video(path) if path.is_file() else _pictures(path, given)
    wanted = max(expected or 0, form.frames)
    if len(frames) < wanted:
        raise ClipError(f"missing frames: {len(frames)} of {wanted}")
    if len({frame.shape for frame in frames}) > 1:
        raise ClipError(f"frames of several sizes: {sorted({frame.shape[:2] for frame in frames})}")
    chosen = [k * len(frames) // form.frames for k in range(form.frames)]
    cameras = _cameras(camera, given, len(frames), elevation, form)[chosen]
    height, width = frames[0].shape[:2]
    side = max(height, width)
    scale = torch.tensor([width / side, height / side, width / side, height / side])
    offset = torch.tensor([0, 0, (side - width) / 2 / side, (side - height) / 2 / side])
    cameras = Camera(cameras.pose, cameras.intrinsics * scale + offset)
    views = np.stack([_squared(frames[k], form.size) for k in chosen])
    return views, cameras.numbers().tolist()


def _video(path: Path) -> list[UInt8[np.ndarray, "h w 4"]]:
    if path.suffix.lower() not in VIDEOS:
        raise ClipError(f"unknown kind of file: {path.suffix or 'none'}; known are {', '.join(VIDEOS)}")
    import av

    try:
        # what only calls itself a video may be a list of files and addresses to fetch
        with av.open(str(path), options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise ClipError("undecodable: there is no video in it")
            frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    except av.FFmpegError as error:
        raise ClipError(f"undecodable: {' '.join(str(error).split())[:120]}") from error
    if not frames:
        raise ClipError("undecodable: there is no frame in it")
    return frames


def _pictures(folder: Path, given: dict[str, Any] | None) -> list[UInt8[np.ndarray, "h w 4"]]:
    """The frames of a folder in the order of their numbers or, with transforms, in that of the file."""
    if not folder.is_dir():
        raise ClipError("missing: there is neither such a file nor such a folder")
    if given is not None:
        paths = [_with_ending(below(folder, frame["file_path"])) for frame in given["frames"]]
        if absent := [path.name for path in paths if not path.is_file()]:
            raise ClipError(f"missing frames: {len(absent)} that {TRANSFORMS} names, first {absent[0]}")
    else:
        paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
        numbers = {path: int(found[-1]) for path in paths if (found := re.findall(r"\d+", path.stem))}
        paths = sorted(paths, key=lambda path: (numbers.get(path, -1), path.name))
        counted = sorted(numbers.values())
        if len(numbers) == len(paths) and len(counted) > 1:
            steps = np.diff(counted)
            if (gap := int((steps // max(steps.min(), 1) - 1).sum())) > 0:
                raise ClipError(f"missing frames: {gap} between {counted[0]} and {counted[-1]}")
    frames = []
    for path in paths:
        try:
            inside = below(folder, path.relative_to(folder).as_posix())
            frames.append(np.asarray(open_picture(inside).convert("RGBA")))
        except (ClipError, MemoryError):
            raise
        except Exception as error:  # pillow raises nearly any type on damaged files
            raise ClipError(f"undecodable: {path.name}: {type(error).__name__}") from error
    return frames


def below(folder: Path, name: str) -> Path:
    """What is called `name` there. Raises ClipError for what lies outside, and for names that no file can have."""
    with suppress(OSError, ValueError):
        path = folder / name
        if name and path.resolve().is_relative_to(folder.resolve()):
            path.exists()
            return path
    raise ClipError(f"refused: {name[:80]!r} lies outside the folder, or no file can be called so")


def _with_ending(path: Path) -> Path:
    """Nerfstudio leaves out the ending of pictures now and then."""
    return path if path.suffix or not path.name else path.with_suffix(".png")


def _transforms(path: Path) -> dict[str, Any]:
    file = path / TRANSFORMS
    try:
        given = read_json(file.read_text())
        for frame in given["frames"]:
            pose = np.asarray(frame["transform_matrix"], dtype=np.float64)
            if pose.shape != (4, 4) or not np.isfinite(pose).all() or not isinstance(frame["file_path"], str):
                raise ValueError("a frame without file_path or 4 x 4 transform_matrix")
        across, down, *centre = _intrinsics(given)
        if not (0 < across < FARTHEST and 0 < down < FARTHEST and all(abs(each) < FARTHEST for each in centre)):
            raise ValueError("no focal length, width or centre that a camera has")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        words = (isinstance(error, OSError) and error.strerror) or str(error)  # without the path, which is ours
        raise ClipError(f"unknown camera: {TRANSFORMS}: {type(error).__name__}: {words[:120]}") from error
    return given


def _intrinsics(given: dict[str, Any]) -> list[float]:
    """fx, fy, cx, cy over width and height."""
    if "fl_x" in given:
        width, height = given["w"], given["h"]
        across = (given["fl_x"] / width, given.get("fl_y", given["fl_x"]) / height)
        return [*across, given.get("cx", width / 2) / width, given.get("cy", height / 2) / height]
    focal = 0.5 / math.tan(0.5 * float(given["camera_angle_x"]))
    return [focal, focal * given.get("w", 1) / given.get("h", 1), 0.5, 0.5]


def _cameras(
    camera: str, given: dict[str, Any] | None, frames: int, elevation: float | None, form: ClipFormat
) -> Camera:
    """The cameras of all frames of the clip, intrinsics over width and height of its pictures."""
    if given is not None:
        pose = torch.tensor([frame["transform_matrix"] for frame in given["frames"]], dtype=torch.float32)
        _refuse_warped(pose)
        return Camera(pose, torch.tensor(_intrinsics(given), dtype=torch.float32).expand(len(pose), 4))
    if camera in (ORBIT, CLOCKWISE):
        step = 360 / frames * (1 if camera == ORBIT else -1)
        return Camera.orbit(frames, elevation or 0.0, form.radius, form.focal, step=step)
    found = Camera.from_numbers(_numbers(camera, frames))
    _refuse_warped(found.pose)
    return found


def _refuse_warped(pose: Float[torch.Tensor, "f 4 4"]) -> None:
    """Raises ClipError for poses that do not turn and move alone."""
    turn = pose[:, :3, :3].double()
    right = (off_orthonormal(turn) < 1e-2) & (torch.linalg.det(turn) > 0) & (pose[:, :3, 3].abs().amax(1) < FARTHEST)
    if not right.all():
        raise ClipError(f"unknown camera: the pose of frame {int((~right).nonzero()[0])} is no rotation and position")


def _numbers(camera: str, frames: int) -> Float[torch.Tensor, "f 16"]:
    try:
        numbers = torch.tensor(read_json(camera), dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ClipError(f"unknown camera: {camera[:40]!r}; known are {', '.join(CAMERAS)}") from error
    if numbers.shape != (frames, 16) or not torch.isfinite(numbers).all():
        raise ClipError(f"unknown camera: {list(numbers.shape)} numbers for {frames} frames of 16")
    return numbers


def _squared(frame: UInt8[np.ndarray, "h w 4"], size: int) -> UInt8[np.ndarray, "s s 4"]:
    """On white, in the middle of a square, resized."""
    height, width = frame.shape[:2]
    side = max(height, width)
    picture = Image.new("RGBA", (side, side), "white")
    picture.alpha_composite(Image.fromarray(frame), ((side - width) // 2, (side - height) // 2))
    # reducing by area, as renders are; enlarging smoothly
    method = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
    return np.asarray(picture if side == size else picture.resize((size, size), method))
