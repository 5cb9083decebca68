"""From planes to files: a GLB with vertex colours, and a turntable video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import trimesh
from jaxtyping import Float
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


def extract_mesh(lrm: LRM, planes: Triplane, config: MeshConfig) -> trimesh.Trimesh:
    """The surface where the density of one object is `config.threshold`, z up, coloured at its vertices.

    A model that is young or unsure may never reach the threshold: then half of its largest density is taken. The grid
    has `config.grid` points a side and includes the faces of the box. Raises InputError when the box is as good as
    empty.
    """
    g, half = config.grid, planes.box
    line = torch.linspace(-half, half, g, device=planes.planes.device)
    with torch.no_grad():
        slabs = []
        for x in line:  # slab by slab: memory grows with the grid's side squared, not cubed
            yz = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2)
            points = torch.cat((x.expand(len(yz), 1), yz), 1)
            slabs.append(lrm.query(planes, points[None])[0].view(g, g).cpu())
        density = torch.stack(slabs).numpy()
        if density.max() < EMPTY:
            raise InputError(
                f"no surface: the largest density is {density.max():.3g}; show the object larger on plain white, "
                "or train the model for longer"
            )
        threshold = min(config.threshold, float(density.max()) / 2)
        # a shell of emptiness closes what the box cuts
        vertices, faces, _, _ = marching_cubes(np.pad(density, 1), threshold)
        vertices = np.clip((vertices - 1) / (g - 1) * 2 - 1, -1, 1) * half
        points = torch.from_numpy(vertices.astype(np.float32)).to(line.device)
        rgb = lrm.query(planes, points[None])[1][0].clamp(0, 1)
    colours = (rgb.cpu().numpy() * 255).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces[:, ::-1], vertex_colors=colours, process=False)


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
    cameras = Camera.orbit(config.frames, config.elevation, radius, config.focal, azimuth).to(planes.planes.device)
    with torch.no_grad():
        frames = [lrm.render(planes, cameras[k : k + 1][None], config.size).rgb[0] for k in range(config.frames)]
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
