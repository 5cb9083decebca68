"""Posed views from files: pictures of one object, and the cameras that took them.

read_views(paths, size, cameras, config) -> PosedViews

Cameras are those of a nerfstudio `transforms.json`, or of a standard ring of candidate views. All that can be wrong is
said before a model computes anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.camera import Camera
from models.flexrm_config import VIEWS
from models.triplane import box_limits
from stages.documents import read_json
from stages.errors import InputError
from stages.pictures import open_picture
from stages.poses import FARTHEST, off_orthonormal
from stages.reconstruction.picture import Picture, object_mask, read_picture
from stages.text import unfit

RINGS = ("orbit", "elevations", "candidates")
"""`orbit`: evenly around at one elevation; `elevations`: one above the other; `candidates`: these, then an orbit."""
SEEN = 0.5
"""Least share of a view's object whose rays meet the box that reconstructions lie in."""
PINHOLES = ("PINHOLE", "OPENCV", "SIMPLE_PINHOLE")
"""Camera models of nerfstudio that are pinholes, up to the coefficients of the lens."""
LENS, BENT = ("k1", "k2", "k3", "k4", "p1", "p2"), 0.05
"""Those coefficients, and how large one may be: at the edge of 60 degrees that moves a pixel by 1 % of the width."""
UPRIGHT = 0.2
"""Least share of z in the mean of the cameras' own ups for the world to be z up."""
SPREAD = 1.0
"""Half of what a camera sees in the plane of the object, in world units: radius / (2 x focal) of the rings."""


@dataclass(frozen=True)
class RingsOfViews:
    """Where views stand that come without cameras; angles in degrees, focal length over the width of a picture."""

    elevation: float = 6.0
    elevations: tuple[float, ...] = (-18.0, 6.0, 18.0, 30.0)
    radius: float = 1.5
    focal: float = 0.75

    def cameras(self, name: str, count: int) -> Camera:
        """The ring `name` for `count` views. Raises InputError where it has not that many."""
        if name not in RINGS:
            raise InputError(f"no ring {name!r}: choose {', '.join(RINGS)}, or name a transforms.json")
        above = len(self.elevations)
        if name == "orbit":
            return Camera.orbit(count, self.elevation, self.radius, self.focal)
        if name == "elevations" and count != above:
            raise InputError(f"{count} views for the ring of {above} elevations {list(self.elevations)}; give {above}")
        if name == "candidates" and count < above + 2:
            raise InputError(
                f"{count} views for {above} elevations and an orbit behind them; give more than {above + 1}"
            )
        parts = [Camera.orbit(1, elevation, self.radius, self.focal) for elevation in self.elevations]
        if name == "candidates":
            parts.append(Camera.orbit(count - above, self.elevation, self.radius, self.focal))
        return Camera(torch.cat([part.pose for part in parts]), torch.cat([part.intrinsics for part in parts]))


@dataclass(frozen=True)
class PosedViews:
    """RGB on white in 0..1 and their cameras, in a world whose box the model knows; `notes` say what was converted."""

    images: Float[Tensor, "v 3 s s"]
    cameras: Camera
    notes: tuple[str, ...] = ()


def read_views(paths: Sequence[Path], size: int, cameras: Path | str, rings: RingsOfViews, box: float) -> PosedViews:
    """Read `paths` as views of `size` pixels a side, with the cameras of a file or of a ring.

    Raises InputError for less than 1 or more than 32 views, a picture that cannot be read, sizes that differ, one
    picture from two places, views without a camera of their own or of a lens that bends lines, and cameras that do not
    see the box where the object should be.
    """
    if not 1 <= len(paths) <= VIEWS:
        raise InputError(f"{len(paths)} views were given; a reconstruction takes 1 to {VIEWS}")
    pictures = [read_picture(path) for path in paths]
    sizes = {picture.rgba.shape[1::-1] for picture in pictures}
    if len(sizes) > 1:
        told = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise InputError(f"the views have different sizes: {told} pixels; give views of one size")
    width, height = sizes.pop()
    notes = tuple(dict.fromkeys(f"{picture.name}: {note}" for picture in pictures for note in picture.notes))
    if isinstance(cameras, Path):
        posed = _transforms(cameras, paths, width, height)
        posed, said = _to_scale(posed)
        notes += _tilted(posed) + said
    else:
        posed = rings.cameras(cameras, len(paths))
    _refuse_equal(pictures, posed)
    side = max(width, height)  # pictures are made square, and their cameras with them
    scale = torch.tensor([width / side, height / side, width / side, height / side])
    offset = torch.tensor([0, 0, (side - width) / 2 / side, (side - height) / 2 / side])
    posed = Camera(posed.pose, posed.intrinsics * scale + offset)
    found = [_on_white(picture, size) for picture in pictures]
    for picture, (_, mask), number in zip(pictures, found, range(len(found)), strict=True):
        _refuse_blind(picture.name, mask, posed[number], box)
    return PosedViews(torch.stack([image for image, _ in found]), posed, notes)


def _refuse_equal(pictures: Sequence[Picture], cameras: Camera) -> None:
    """One picture from two places; from one place is what the two models of candidate views share."""
    seen: dict[bytes, int] = {}
    for number, picture in enumerate(pictures):
        first = seen.setdefault(picture.rgba.tobytes(), number)
        if not torch.allclose(cameras.pose[first], cameras.pose[number], atol=1e-4):
            raise InputError(f"{picture.name} and {pictures[first].name} are the same picture; give each view once")


def _on_white(picture: Picture, size: int) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "s s"]]:
    """The picture on white in the middle of a square, and what of it is object."""
    mask = object_mask(picture)
    rgba = picture.rgba.copy()
    if rgba[..., 3].min() >= 128:
        rgba[..., 3] = np.where(mask, 255, 0) if not _white(rgba, mask) else 255
    height, width = mask.shape
    side = max(height, width)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(Image.fromarray(rgba), ((side - width) // 2, (side - height) // 2))
    cover = Image.new("L", (side, side), 0)
    cover.paste(Image.fromarray((mask * 255).astype(np.uint8)), ((side - width) // 2, (side - height) // 2))
    method = Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC
    small, covered = (part.resize((size, size), method) for part in (square.convert("RGB"), cover))
    image = torch.from_numpy(np.asarray(small).copy()).movedim(-1, 0).float() / 255
    return image, torch.from_numpy(np.asarray(covered).copy()).float() / 255


def _white(rgba: np.ndarray, mask: np.ndarray) -> bool:
    outside = rgba[..., :3][~mask]
    return len(outside) == 0 or float(np.median(outside.min(-1))) > 250


def _refuse_blind(name: str, mask: Float[Tensor, "s s"], camera: Camera, box: float) -> None:
    near, far = box_limits(*camera.rays(mask.shape[-1]), box)
    seen = float((mask.flatten() * (far > near)).sum() / mask.sum().clamp(min=1e-6))
    if seen < SEEN:
        raise InputError(
            f"{name}: only {seen:.0%} of what it shows lies where its camera sees the box of +-{box:.3g} around the "
            "origin; are the cameras those of these pictures (camera to world, OpenGL axes, z up)?"
        )


def _transforms(file: Path, paths: Sequence[Path], width: int, height: int) -> Camera:
    """The cameras of nerfstudio's file for these pictures: by the name of the file, with or without its folder."""
    try:
        given = read_json(file.read_text())
        frames: list[dict[str, Any]] = given["frames"]
        named = {str(frame["file_path"]): frame for frame in frames}
    except (OSError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())[:120]
        raise InputError(f"{file} is no transforms.json: {type(error).__name__}: {told}") from None
    chosen = []
    named = {name: frame for name, frame in named.items() if isinstance(frame, dict) and not unfit(name)}
    for path in paths:
        frame = _frame_of(path, file, named)
        if frame is None:
            raise InputError(f"{path} has no camera: {file} names {', '.join(list(named)[:4])}, but not it")
        if other := next((other for other, taken in chosen if taken is frame), None):
            raise InputError(
                f"{other} and {path} have one camera: {file} names but one of them; name each by its folder"
            )
        chosen.append((path, frame))
    poses, intrinsics = [], []
    for path, frame in chosen:
        pose = np.asarray(frame.get("transform_matrix"), dtype=object)
        try:
            pose = np.asarray(pose, dtype=np.float64)
            if pose.shape not in ((4, 4), (3, 4)) or not (np.abs(pose) < FARTHEST).all():
                raise ValueError(f"transform_matrix of shape {pose.shape}, or not finite and below {FARTHEST:g}")
            turn = torch.from_numpy(pose[:3, :3])
            turn = turn / turn.norm(dim=0)  # the length of an axis does not matter
            if not (off_orthonormal(turn) < 1e-2 and torch.linalg.det(turn) > 0):
                raise ValueError("transform_matrix holds no rotation")
            whole = np.eye(4)
            whole[:3, :3], whole[:3, 3] = turn, pose[:3, 3]
            poses.append(whole)
            _refuse_lens({**given, **frame})
            intrinsics.append(_intrinsics({**given, **frame}, *_as_stored(path, width, height)))
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise InputError(f"{path} has no usable camera in {file}: {error}") from None
    return Camera(torch.tensor(np.stack(poses), dtype=torch.float32), torch.tensor(intrinsics, dtype=torch.float32))


def _frame_of(path: Path, file: Path, named: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """By where the picture lies beside the file, else by its name alone where that is unique."""
    for name, frame in named.items():
        if path.resolve() in {(file.parent / (name + ending)).resolve() for ending in ("", path.suffix)}:
            return frame
    alike = [frame for name, frame in named.items() if Path(name).name in {path.name, path.stem}]
    return alike[0] if len(alike) == 1 else None


def _refuse_lens(given: dict[str, Any]) -> None:
    """Raises ValueError for a lens that bends straight lines by what is seen: cameras here are pinholes."""
    if str(given.get("camera_model", "OPENCV")) not in PINHOLES:
        raise ValueError(f"camera_model {given['camera_model']}; undistort the pictures to {PINHOLES[0]}")
    bent = {name: float(given.get(name) or 0) for name in LENS}
    if any(abs(value) > BENT for value in bent.values()):
        raise ValueError(
            f"its lens bends ({', '.join(f'{k} {v:.3g}' for k, v in bent.items() if v)}); undistort the pictures"
        )


def _as_stored(path: Path, width: int, height: int) -> tuple[float, float]:
    """Width and height before a large picture was read smaller: what focal lengths in pixels are of."""
    with open_picture(path) as picture:
        factor = max(picture.size) / max(width, height)
    return width * factor, height * factor


def _intrinsics(given: dict[str, Any], width: float, height: float) -> list[float]:
    """fx, fy, cx, cy over width and height of the pictures."""
    if "fl_x" in given:
        w, h = float(given.get("w", width)), float(given.get("h", height))
        if abs(w / h * height / width - 1) > 0.02:
            raise ValueError(f"it is of {w:g} x {h:g} pixels, the picture of {width:g} x {height:g}: turned, or cut?")
        fx = float(given["fl_x"]) / w
        fy = float(given.get("fl_y", given["fl_x"])) / h
        found = [fx, fy, float(given.get("cx", w / 2)) / w, float(given.get("cy", h / 2)) / h]
    elif "camera_angle_x" in given:
        focal = 0.5 / math.tan(0.5 * float(given["camera_angle_x"]))
        found = [focal, focal * width / height, 0.5, 0.5]
    else:
        raise KeyError("neither fl_x nor camera_angle_x")
    if not all(abs(value) < FARTHEST for value in found) or min(found[:2]) < 1 / FARTHEST:
        raise ValueError(f"intrinsics {found}")
    return found


def _tilted(cameras: Camera) -> tuple[str, ...]:
    """A note where pictures that are upright would show a world that lies on its side: y up, most likely."""
    up = torch.nn.functional.normalize(cameras.pose[:, :3, 1].double().mean(0), dim=-1)
    if float(up[2]) >= UPRIGHT:
        return ()
    told = [round(x, 2) for x in up.tolist()]
    return (
        f"the cameras' up is {told} on average where z up is wanted: turn the scene, or the object lies on its side",
    )


def _to_scale(cameras: Camera) -> tuple[Camera, tuple[str, ...]]:
    """The cameras around the origin at the scale of the rings: what they look at lies where their axes come nearest to
    each other, and on average they see `SPREAD` to either side of it along the shorter side of the picture. One camera
    alone is taken to look at the origin.
    """
    position, axis = cameras.pose[:, :3, 3].double(), -cameras.pose[:, :3, 2].double()
    away = torch.eye(3, dtype=torch.float64) - axis[:, :, None] * axis[:, None]  # off each axis
    normal = away.sum(0)
    middle = torch.zeros(3, dtype=torch.float64)
    if torch.linalg.cond(normal) < 1e4:
        middle = torch.linalg.solve(normal, (away @ position[..., None]).sum(0)[:, 0])
    depth = ((middle - position) * axis).sum(-1)
    if (depth <= 0).any():
        number = int((depth <= 0).nonzero()[0])
        raise InputError(
            f"camera {number} looks away from where the others look ({[round(x, 3) for x in middle.tolist()]}); "
            "camera to world with OpenGL axes is wanted: a camera looks along its -z"
        )
    scale = SPREAD / float((0.5 * depth / cameras.intrinsics[:, :2].double().amax(1)).mean())
    if float(middle.norm()) < 1e-3 and abs(scale - 1) < 0.02:
        return cameras, ()
    pose = cameras.pose.clone()
    pose[:, :3, 3] = (scale * (position - middle)).float()
    moved = f"moved by {[round(-x, 3) for x in middle.tolist()]} and " if float(middle.norm()) > 1e-3 else ""
    return Camera(pose, cameras.intrinsics), (f"cameras {moved}scaled by {scale:.3g}, to the scale of the rings",)
