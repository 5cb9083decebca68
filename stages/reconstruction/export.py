"""One image in, a 3D asset out: GLB and turntable video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from models.camera import Camera
from models.checkpoints import WEIGHTS, load
from models.config import LRMConfig
from models.lrm import LRM
from stages.errors import InputError
from stages.hashing import file_md5
from stages.reconstruction.config import ExportConfig, FinetuneConfig
from stages.reconstruction.data import Orbits
from stages.reconstruction.mesh import extract_mesh, turntable, write_glb, write_video


def export(model: LRM, orbits: Orbits, config: FinetuneConfig, output: Path) -> None:
    """Write asset.glb and turntable.mp4 of the first held-out object, from the protocol's input view."""
    from stages.evaluation.held_out import input_view

    view = input_view(orbits, config.protocol)
    camera = orbits.cameras[0][view]
    write_asset(
        model,
        orbits.rgb[0, view].float() / 255,
        camera,
        config.export,
        model_md5=file_md5(output / WEIGHTS),
        mesh=output / "asset.glb",
        video=output / "turntable.mp4",
    )


def reconstruct(
    image: Path,
    model: Path,
    output: Path,
    config: ExportConfig,
    *,
    video: Path | None = None,
    elevation: float | None = None,
) -> None:
    """Reconstruct the object in `image` with the model folder `model`; write a GLB and, if wanted, an MP4.

    `elevation` (degrees) is that of the camera that took the picture. Raises InputError when the image cannot be read
    or shows nothing.
    """
    torch.set_num_threads(1)
    lrm = load(model, LRMConfig, LRM.from_config)
    picture = object_picture(image, lrm.config.encoder.image_size, config.fill)
    height = config.elevation if elevation is None else elevation
    camera = Camera.orbit(1, height, config.radius, config.focal)[0]
    write_asset(lrm, picture, camera, config, model_md5=file_md5(model / WEIGHTS), mesh=output, video=video)


def write_asset(
    lrm: LRM,
    picture: Float[Tensor, "3 s s"],
    camera: Camera,
    config: ExportConfig,
    *,
    model_md5: str,
    mesh: Path,
    video: Path | None,
) -> None:
    """Reconstruct one picture taken by `camera`. The GLB's `asset.extras` carry the model's md5."""
    own = camera.relative_to(camera)
    with torch.no_grad():
        planes = lrm.triplane(picture[None], Camera(own.pose[None], own.intrinsics[None]))
    write_glb(extract_mesh(lrm, planes, config.mesh), mesh, {"model_md5": model_md5, "generator": "Orbitforge"})
    if video is not None:
        write_video(turntable(lrm, planes, config.turntable, radius=config.radius), video, config.turntable.rate)


def object_picture(path: Path, size: int, fill: float) -> Float[Tensor, "3 s s"]:
    """The object of a picture, centred on white so that its longer side takes `fill` of it, RGB in 0..1.

    A picture with an alpha channel says itself where its object is; otherwise everything that is not near white is
    the object. Raises InputError when the picture cannot be read or shows nothing.
    """
    try:
        picture = Image.open(path).convert("RGBA")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is no picture that can be read: {error}") from None
    rgba = np.asarray(picture)
    mask = rgba[..., 3] > 127
    if mask.all():
        mask = (rgba[..., :3] < 245).any(-1)
    if not mask.any():
        raise InputError(f"{path} shows nothing: every pixel is transparent or white")
    rows, columns = (np.nonzero(np.any(mask, axis=axis))[0].tolist() for axis in (-1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    side = round(max(box[2] - box[0], box[3] - box[1]) / fill)
    white = Image.new("RGBA", (side, side), "white")
    cut = picture.crop(box)
    white.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2), cut)
    small = white.convert("RGB").resize((size, size), Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255
