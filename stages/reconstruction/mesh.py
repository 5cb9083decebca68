"""From planes to files: a GLB with vertex colours, and a turntable video."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int64
from skimage.measure import marching_cubes
from torch import Tensor
from trimesh.exchange.gltf import export_glb

from models.camera import Camera
from models.lrm import LRM
from models.triplane import Triplane
from stages.errors import InputError
from stages.reconstruction.config import MeshConfig, TurntableConfig

Y_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=np.float64)  # glTF's y is up, ours z

ENCODER = {"crf": "18", "x264-params": "threads=1:rc-lookahead=0:sync-lookahead=0:mbtree=0"}
"""Looking ahead is what x264 does in a thread of its own, and then equal frames give other bytes."""
EMPTY = 1e-2  # density that hides a thousandth of what lies behind the box
LAYERS = 32  # grid layers that marching cubes sees at once
PROBE = 64  # points a side of the grid that the threshold is judged on


def extract_mesh(lrm: LRM, planes: Triplane, config: MeshConfig) -> trimesh.Trimesh:
    """The surface where the density of one object is `config.threshold`, z up, coloured at its vertices.

    A model that is young or unsure may never reach the threshold: then half of its largest density is taken. The grid
    has `config.grid` points a side and includes the faces of the box; memory grows with its square. Raises InputError
    when the box is as good as empty.
    """
    field = lrm.field(planes)
    with torch.no_grad():
        threshold = _threshold(lrm.densities(field, min(config.grid, PROBE)), config.threshold)
        vertices, faces = _surface(lrm.densities(field, config.grid, threshold), config.grid, threshold)
        vertices = np.clip(vertices / (config.grid - 1) * 2 - 1, -1, 1) * planes.box
        points = torch.from_numpy(vertices.astype(np.float32)).to(planes.planes.device)
        rgb = lrm.query(field, points[None])[1][0].clamp(0, 1)
    colours = (rgb.cpu().numpy() * 255).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)


def _threshold(slabs: Iterable[Float[Tensor, "rows g g"]], wanted: float) -> float:
    """The wanted threshold, or half of the largest density of a coarse grid where that is lower."""
    largest = max(float(slab.max()) for slab in slabs)
    if largest < EMPTY:
        raise InputError(
            f"no surface: the largest density is {largest:.3g}; show the object larger on plain white, "
            "or train the model for longer"
        )
    return min(wanted, largest / 2)


def _surface(
    slabs: Iterable[Float[Tensor, "rows g g"]], side: int, threshold: float
) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]:
    """Marching cubes over slabs of a grid, stitched: vertices in grid steps, faces that look outwards.

    A shell of emptiness around the box closes what it cuts. Raises InputError when nothing reaches the threshold.
    """
    layers = chain.from_iterable(slab.cpu().numpy() for slab in slabs)
    empty = np.zeros((side, side), dtype=np.float32)
    vertices, faces, count = [], [], 0
    last = empty
    for first in range(-1, side + 1, LAYERS):  # the place of `last`
        more = [next(layers, empty) for _ in range(min(LAYERS, side - first))]
        volume = np.pad(np.stack([last, *more]), ((0, 0), (1, 1), (1, 1)))
        last = more[-1] if more else last
        if volume.max() <= threshold or volume.min() >= threshold or len(volume) < 2:
            continue
        own, triangles, _, _ = marching_cubes(volume, threshold)
        vertices.append(own + np.array((first, -1, -1)))
        faces.append(triangles[:, ::-1].astype(np.int64) + count)
        count += len(own)
    if not faces:
        raise InputError(
            f"no surface: no density in a grid of {side} points a side reaches {threshold:.3g}; "
            "choose a finer grid or a lower threshold"
        )
    return _stitched(np.concatenate(vertices), np.concatenate(faces))


def _stitched(
    vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int64[np.ndarray, "f 3"]]:
    """Vertices that two slabs share become one: they lie in a layer of the grid, at the same place to the bit."""
    shared = np.flatnonzero((vertices[:, 0] + 1) % LAYERS == 0)
    _, first, which = np.unique(vertices[shared], axis=0, return_index=True, return_inverse=True)
    merged = np.arange(len(vertices))
    merged[shared] = shared[first[which.ravel()]]
    kept, renumbered = np.unique(merged, return_inverse=True)
    faces = renumbered[faces]
    whole = (faces != np.roll(faces, 1, axis=1)).all(1)  # vertices on a grid point leave faces without area
    return vertices[kept], faces[whole]


def write_glb(mesh: trimesh.Trimesh, path: Path, extras: dict[str, Any]) -> None:
    """Write a GLB, y up as glTF has it; `extras` (where the mesh comes from) stand in its `asset`."""
    turned = mesh.copy()
    turned.apply_transform(Y_UP)

    def add_extras(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = extras

    data = export_glb(turned.scene(), tree_postprocessor=add_extras)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def turntable(
    lrm: LRM, planes: Triplane, config: TurntableConfig, *, radius: float, azimuth: float = 0.0
) -> Float[Tensor, "frames 3 h w"]:
    """Views of one object from a full turn around it, beginning at `azimuth` degrees."""
    field = lrm.field(planes)
    cameras = Camera.orbit(config.frames, config.elevation, radius, config.focal, azimuth).to(planes.planes.device)
    with torch.no_grad():
        frames = [lrm.render(field, cameras[k : k + 1][None], config.size).rgb[0] for k in range(config.frames)]
    return torch.cat(frames).clamp(0, 1)


def write_video(frames: Float[Tensor, "n 3 h w"], path: Path, rate: int) -> None:
    """Write an MP4 (H.264) that every browser plays. Height and width must be even."""
    pixels = (frames.permute(0, 2, 3, 1).cpu().numpy() * 255 + 0.5).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(rate), options=ENCODER)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[1], pixels.shape[2], "yuv420p"
        for picture in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            for packet in stream.encode(frame.reformat(format="yuv420p")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
