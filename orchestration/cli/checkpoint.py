"""From what a person names as a checkpoint to a model that is ready."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console

from orchestration import paths
from orchestration.cli.credits import credits_of
from orchestration.cli.sample import fetch_sample
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import Preset
from orchestration.shipping import EXAMPLE

if TYPE_CHECKING:
    from stages.reconstruction.asset import Height, Reconstructor

MODEL = "lrm_finetuned"
_REGISTERED = re.compile(r"(?:mlflow:|models:/)(?P<name>[\w.-]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def reconstructor(
    preset: Preset, checkpoint: str | None, *, kind: str | None, device: str, changes: dict[str, Any]
) -> Reconstructor:
    """The model at `checkpoint` (default: see `checkpoint_path`) with the preset's way of making assets or, for a
    published model, its own; `changes` are keys of `ExportConfig`, None for those that stay, nested under `mesh` and
    `turntable`. Raises OrbitforgeError or InputError that say what is missing.
    """
    from dataclasses import replace

    folder = checkpoint_path(preset, checkpoint)
    if owed := credits_of(folder):
        told = Console(stderr=True)
        told.print(f"model {folder.relative_to(paths.data())}, which learned from", style="dim", highlight=False)
        for line in owed:
            told.print(f"  {line}", style="dim", markup=False, highlight=False)
    found = loaded(folder, kind=kind, device=device)
    before = preset.finetune.export if found.kind in ("orbitforge", "flexrm") else found.config
    return replace(found, config=changed(before, changes))


def loaded(path: Path, *, kind: str | None, device: str) -> Reconstructor:
    """The model at `path`: a FlexRM, which takes a picture as one view, or an LRM; see the `load` of each."""
    from stages.flexrm.asset import is_flexrm, load_flexrm
    from stages.reconstruction.load import load

    if kind is None and is_flexrm(path):
        return load_flexrm(path, device=device)
    return load(path, kind=kind, device=device)


def checkpoint_path(preset: Preset, checkpoint: str | None) -> Path:
    """A file or folder: what lies at a path, what MLflow has as mlflow:NAME@ALIAS or mlflow:NAME/VERSION, or by default
    the preset's model, and before that is made the one that ships."""
    if checkpoint is None:
        return _own_or_shipped(preset)
    if checkpoint.startswith(("mlflow:", "models:/")):
        return _registered(checkpoint)
    if not Path(checkpoint).exists():
        raise OrbitforgeError(
            f"nothing lies at {checkpoint}; name a safetensors file, a folder with one, or mlflow:NAME@ALIAS"
        )
    return Path(checkpoint)


def _own_or_shipped(preset: Preset) -> Path:
    own, shipped = paths.data() / preset.name / MODEL, paths.data() / EXAMPLE
    if not (own / "config.json").is_file():
        fetch_sample(Console(stderr=True))
    for model in (own, shipped):
        if (model / "config.json").is_file():
            return model
    raise OrbitforgeError(
        f"{own} holds no model yet, nor {shipped}; make one with `orbitforge run --preset {preset.name}`"
    )


def _registered(text: str) -> Path:
    match = _REGISTERED.fullmatch(text)
    if not match:
        raise OrbitforgeError(f"{text!r} is no registered model; write mlflow:NAME@ALIAS or mlflow:NAME/VERSION")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    from orchestration.resources.tracking import Tracking

    uri = Tracking().client().tracking_uri
    which = f"@{match['alias']}" if match["alias"] else f"/{match['version']}"
    try:
        return Path(download_artifacts(f"models:/{match['name']}{which}", tracking_uri=uri))
    except (MlflowException, OSError) as error:
        raise OrbitforgeError(f"MLflow at {uri} gives no {text}: {' '.join(str(error).split())}") from None


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """The config with some keys changed; -1 stands for null. Raises OrbitforgeError for values out of range."""
    values = config.model_dump()
    for name, value in changes.items():
        part, _, key = name.rpartition(".")
        if value is not None:
            (values[part] if part else values)[key] = None if value == -1 else value
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OrbitforgeError(f"{where}: {first['msg']}; it was {first['input']!r}") from None


def estimator(preset: Preset) -> Height:
    """Elevations by the preset's estimator. Raises InputError when there is none."""
    from stages.reconstruction.height import load_height

    home = paths.data()
    return load_height(
        home / preset.name / "elevation_estimator", home / "base_models" / "encoder", preset.quality.features
    )


def told_height(preset: Preset, text: str | None) -> float | Height | None:
    """What `--elevation` says: degrees, `auto` for the estimator, nothing for the preset's own number."""
    if text is None:
        return None
    if text == "auto":
        return estimator(preset)
    try:
        degrees = float(text)
    except ValueError:
        degrees = float("nan")
    if not -89 <= degrees <= 89:
        raise OrbitforgeError(f"--elevation {text}: degrees from -89 to 89 are wanted, or auto")
    return degrees


def saliency_config(path: Path | None) -> dict[str, Any] | None:
    """A network that the user names; ISNet's family wants other numbers than U2-Net's."""
    if path is None:
        return None
    if not path.is_file():
        raise OrbitforgeError(f"{path} is no file; name a salient-object network, such as u2net.onnx")
    from stages.hashing import file_md5

    other = {"size": 1024, "normalise": "half"} if "isnet" in path.name else {}
    return {"at": str(path), "md5": file_md5(path), **other}
