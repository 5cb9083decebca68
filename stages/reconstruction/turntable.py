"""A video once around a reconstruction."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.lrm import LRM
from models.triplane import Triplane
from stages.reconstruction.config import TurntableConfig

ENCODER = {"crf": "18", "x264-params": "threads=1:rc-lookahead=0:sync-lookahead=0:mbtree=0"}
"""Looking ahead is what x264 does in a thread of its own, and then equal frames give other bytes."""


def turntable(
    lrm: LRM, planes: Triplane, config: TurntableConfig, *, azimuth: float = 0.0
) -> Float[Tensor, "frames 3 h w"]:
    """Views of one object from a full turn around it, beginning at `azimuth` degrees."""
    field = lrm.field(planes)
    cameras = Camera.orbit(config.frames, config.elevation, config.radius, config.focal, azimuth).to(
        planes.planes.device
    )
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
