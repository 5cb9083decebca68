"""Assets of the demo page: a picture or a sentence in, a folder of files out, one at a time."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.cli.painting import Paint, worded
from stages.errors import InputError

if TYPE_CHECKING:
    from stages.reconstruction.asset import Height, Reconstructor
    from stages.reconstruction.picture import Picture

KEPT = 32  # folders on disk at once, of results and of what was uploaded


@dataclass(frozen=True)
class Made:
    """What was made, in a folder of its own; `told` is one line about it, `extras` stand in the GLB as well."""

    glb: Path
    obj: Path  # with material and texture, a .zip
    ply: Path
    turntable: Path
    picture: Path
    told: str
    extras: dict[str, Any]


class Maker:
    """One model for everyone who has the page open. `height` estimates elevations, `paint` draws sentences; where it is
    None, `lacking` says why. `folder` belongs to the maker: the oldest of its folders go."""

    def __init__(
        self,
        model: Reconstructor,
        folder: Path,
        *,
        height: Height | None = None,
        paint: Paint | None = None,
        lacking: str | None = None,
    ) -> None:
        self.model, self.folder, self.height, self.lacking = model, folder, height, lacking
        self._paint = paint
        self._one_at_a_time = threading.Lock()

    def from_picture(self, path: Path, elevation: str | float | None) -> Made:
        """`elevation` in degrees (-89 to 89), "auto" to have it estimated, None for the usual. Raises InputError."""
        from stages.reconstruction.picture import read_picture

        height = self._height(elevation)
        return self._make(lambda: read_picture(path, path.name), height, {})

    def from_sentence(self, prompt: str, seed: int, elevation: str | float | None) -> Made:
        """The same of a picture that is drawn first. Raises InputError, also for what a corpus refuses as a prompt."""
        text, paint = worded(prompt), self._paint
        if paint is None:
            raise InputError(self.lacking or "no model draws sentences here; give a picture")
        return self._make(lambda: paint(text, seed), self._height(elevation), {"prompt": text, "seed": seed})

    def _height(self, elevation: str | float | None) -> float | Height | None:
        if elevation == "auto":
            if self.height is None:
                raise InputError("no model estimates elevations here; give degrees")
            return self.height
        if elevation is None:
            return None
        if not isinstance(elevation, int | float) or not -89 <= elevation <= 89:
            raise InputError(f"elevation {elevation!r}: degrees from -89 to 89 are wanted")
        return float(elevation)

    def _make(self, picture: Callable[[], Picture], height: float | Height | None, more: dict[str, Any]) -> Made:
        with self._one_at_a_time:
            began = time.monotonic()
            id_ = uuid.uuid4().hex[:12]
            folder = self.folder / id_
            try:
                seen = picture()
                asset = self.model(seen, height).told(**more)
                glb, obj, ply, turntable, png = (
                    folder / f"{id_}.{kind}" for kind in ("glb", "zip", "ply", "mp4", "png")
                )
                asset.write(glb)
                asset.write(ply)
                with zipfile.ZipFile(obj, "w", zipfile.ZIP_DEFLATED) as archive:
                    for file in asset.write(folder / "obj" / "asset.obj"):
                        archive.write(file, file.name)
                shutil.rmtree(folder / "obj")
                asset.write_turntable(turntable)
                seen.save(png)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                self._forget()
            told = [
                f"{len(asset.mesh.faces)} faces in {time.monotonic() - began:.1f} s",
                f"seen from {asset.extras['elevation']:g} degrees up",
                *asset.notes,
            ]
            return Made(glb, obj, ply, turntable, png, "; ".join(told), asset.extras)

    def _forget(self) -> None:
        if self.folder.is_dir():
            folders = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for old in folders[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
