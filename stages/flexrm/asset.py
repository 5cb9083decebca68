"""A FlexRM that is ready to be called with views, and what it makes of them: a mesh, as an LRM's, and splats.

from stages.flexrm.asset import load_flexrm
reconstruct = load_flexrm("data/tiny/flexrm")
reconstruct.from_views(images, cameras).write_splats("chair.ply")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from models.camera import Camera
from models.checkpoints import WEIGHTS, load
from models.flexrm import FlexRM
from models.flexrm_config import FlexRMConfig
from models.gaussians import Gaussians
from stages.errors import InputError
from stages.hashing import file_md5
from stages.reconstruction.asset import Asset, Reconstructor
from stages.reconstruction.config import ExportConfig
from stages.reconstruction.load import found_device
from stages.reconstruction.splats import FAINT, write_splats

KIND = "flexrm"


@dataclass(frozen=True)
class SplatAsset(Asset):
    """A reconstruction with Gaussians as well."""

    @cached_property
    @torch.no_grad()
    def gaussians(self) -> Gaussians:
        """Those that are seen, z up."""
        assert isinstance(self.lrm, FlexRM)
        whole = self.lrm.gaussians(self.planes)[0]
        return whole.kept(whole.opacities >= FAINT)

    def write_splats(self, path: Path | str) -> Path:
        """Write a 3DGS PLY; see `stages.reconstruction.splats`. Raises InputError when no Gaussian is seen."""
        if len(self.gaussians) == 0:
            raise InputError(
                f"no splats: all Gaussians have an opacity below {FAINT}; is there an object in the views?"
            )
        write_splats(self.gaussians, Path(path), self.extras, up=self.config.up, scale=self.config.scale)
        return Path(path)


@dataclass(frozen=True)
class ViewsReconstructor(Reconstructor):
    """A `Reconstructor` that takes any number of views from 1 to 32."""

    kind: str = KIND

    def seen_by(self, view: Float[Tensor, "3 s s"], camera: Camera, notes: tuple[str, ...] = ()) -> SplatAsset:
        return self.from_views(view[None], Camera(camera.pose[None], camera.intrinsics[None]), notes)

    @torch.no_grad()
    def from_views(self, images: Float[Tensor, "v 3 s s"], cameras: Camera, notes: tuple[str, ...] = ()) -> SplatAsset:
        """Reconstruct what `cameras` [v] see: RGB on white, 0..1. The asset's azimuth 0 is the first camera's."""
        assert isinstance(self.lrm, FlexRM)
        device = next(self.lrm.parameters()).device
        own = cameras.relative_to(cameras[:1]).to(device)
        planes = self.lrm.triplane(images[None].to(device), own[None])
        extras = {"model_md5": self.md5, "generator": "Orbitforge", "views": len(images)}
        return SplatAsset(self.lrm, planes, self.config, extras, notes)


def is_flexrm(folder: Path) -> bool:
    """Whether a model folder holds a FlexRM rather than an LRM, by its config alone."""
    path = folder / "config.json"
    return path.is_file() and b'"gaussians"' in path.read_bytes()


def load_flexrm(folder: Path | str, *, device: str = "cpu", config: ExportConfig | None = None) -> ViewsReconstructor:
    """The FlexRM of a folder. Raises InputError for what is missing, corrupt, of another kind or not finite."""
    folder = Path(folder)
    try:
        model = load(folder, FlexRMConfig, FlexRM)
    except (FileNotFoundError, ValidationError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} holds no FlexRM: {' '.join(str(error).split())[:300]}") from None
    bad = next((key for key, value in model.state_dict().items() if not value.isfinite().all()), None)
    if bad:
        raise InputError(f"{folder / WEIGHTS}: {bad} holds numbers that are not finite; its training had failed")
    config = config or ExportConfig.model_validate({})
    return ViewsReconstructor(model.to(found_device(device)), file_md5(folder / WEIGHTS), config=config)
