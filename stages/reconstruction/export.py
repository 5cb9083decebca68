"""What a trained model leaves beside its weights: a 3D asset and a turntable video of a held-out object."""

from __future__ import annotations

from pathlib import Path

from models.checkpoints import WEIGHTS
from models.lrm import LRM
from stages.hashing import file_md5
from stages.reconstruction.asset import Reconstructor
from stages.reconstruction.config import FinetuneConfig
from stages.reconstruction.data import Orbits


def export(model: LRM, orbits: Orbits, config: FinetuneConfig, output: Path) -> None:
    """Write asset.glb and turntable.mp4 of the first held-out object, from the protocol's input view."""
    from stages.evaluation.held_out import input_view

    view = input_view(orbits, config.protocol)
    made = Reconstructor(model, file_md5(output / WEIGHTS), config=config.export).seen_by(
        orbits.rgb[0, view].float() / 255, orbits.cameras[0][view]
    )
    made.write(output / "asset.glb")
    made.write_turntable(output / "turntable.mp4")
