"""A preset: every number that decides bytes, resolved once when the code location loads."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestration.errors import OrbitforgeError
from orchestration.resources.engines.config import EngineConfig
from stages.base.config import EncoderTrainingConfig, TextToImageTrainingConfig, VideoTrainingConfig
from stages.candidates.config import CandidatesConfig
from stages.corpus.config import CorpusConfig
from stages.curation.config import CurationConfig
from stages.documents import DocumentError, read_yaml
from stages.evaluation.config import EvaluationConfig
from stages.flexrm.config import FlexRMTrainingConfig
from stages.multiview.config import MultiviewTrainingConfig
from stages.objects.config import SourceConfig
from stages.quality.config import QualityConfig
from stages.reconstruction.config import FinetuneConfig, PretrainConfig
from stages.rendering.config import RenderingConfig
from stages.rendering.rings import RingsConfig
from stages.scaling.config import ScalingConfig
from stages.text import unfit
from stages.video.config import VideoFinetuneConfig

VARIABLE = "ORBITFORGE_PRESET"
DEFAULT = "tiny"
FOLDER = Path(__file__).parent
OTHERS = ("human_labels", "base_models", "ledger")
"""Folders below data/ beside those of sources and presets."""


class PresetError(OrbitforgeError):
    """A preset that cannot be used; the message is one line naming file, key and the way out."""


class BaseConfig(BaseModel):
    """The base weights. They ship, and every preset without public weights shares them: see tiny.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderTrainingConfig = EncoderTrainingConfig.model_validate({"encoder": {}})
    video: VideoTrainingConfig = VideoTrainingConfig.model_validate({})
    text_to_image: TextToImageTrainingConfig | None = Field(
        TextToImageTrainingConfig.model_validate({}), description="null makes none"
    )


class PlanConfig(BaseModel):
    """What `orbitforge plan` assumes; no stage reads it, so it makes nothing stale."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objects: int | None = Field(None, gt=0, description="null counts the source table")
    objects_per_shard: int = Field(100, gt=0)
    prompts: int | None = Field(None, gt=0, description="null counts the source table")
    prompts_per_shard: int = Field(1000, gt=0)
    kept: float = Field(0.675, gt=0, le=1, description="share of clips that the filter keeps; the paper's by default")
    device: Literal["cpu", "gpu"] = Field("cpu", description="what runs the models")


class Preset(BaseModel):
    """One section a stage. A step names the sections it reads, and only those make it stale."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="names the folder below data/")
    seed: int = Field(0, ge=0, description="the root of every random number")
    source: SourceConfig = SourceConfig.model_validate({})
    rendering: RenderingConfig = RenderingConfig.model_validate({})
    rings: RingsConfig = RingsConfig.model_validate({})
    base: BaseConfig = BaseConfig.model_validate({})
    video: VideoFinetuneConfig = VideoFinetuneConfig.model_validate({})
    corpus: CorpusConfig = CorpusConfig.model_validate({})
    quality: QualityConfig = QualityConfig.model_validate({})
    curation: CurationConfig = CurationConfig.model_validate({})
    pretrain: PretrainConfig = PretrainConfig.model_validate({})
    finetune: FinetuneConfig = FinetuneConfig.model_validate({})
    flexrm: FlexRMTrainingConfig = FlexRMTrainingConfig.model_validate({})
    scaling: ScalingConfig = ScalingConfig.model_validate({})
    evaluation: EvaluationConfig = EvaluationConfig.model_validate({})
    multiview: MultiviewTrainingConfig = MultiviewTrainingConfig.model_validate({})
    candidates: CandidatesConfig = CandidatesConfig.model_validate({})
    plan: PlanConfig = PlanConfig.model_validate({})
    engine: EngineConfig = EngineConfig.model_validate({})

    @model_validator(mode="after")
    def _source_lies_elsewhere(self) -> Preset:
        parts = self.source.folder.split("/")
        if {"", ".", ".."} & set(parts) or unfit(self.source.folder):
            raise ValueError(f"source.folder is {self.source.folder[:80]!r}; it is the name of a folder below data/")
        if (folder := self.source.folder) in {self.name, *preset_names(), *OTHERS}:
            raise ValueError(f"source.folder is {folder!r}, but data/{folder}/ holds artifacts; name it otherwise")
        return self

    def resolved(self, *sections: str) -> dict[str, Any]:
        """The values of these sections (`rendering`, or a part: `quality.verdict`), defaults filled in, ready for JSON.

        Raises PresetError for a section that does not exist.
        """
        return {section: self._at(section) for section in sections}

    def _at(self, section: str) -> Any:
        value: Any = self.model_dump(mode="json")
        for key in section.split("."):
            if not isinstance(value, dict) or key not in value:
                raise PresetError(
                    f"preset {self.name}: no section {section!r}; sections are {', '.join(type(self).model_fields)}"
                )
            value = value[key]
        return value


def preset_names() -> list[str]:
    """The presets that ship, smallest first."""
    order = ["nano", "tiny", "small-cpu", "furniture", "small", "small-svd", "paper"]
    return sorted(
        (path.stem for path in FOLDER.glob("*.yaml")),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )


def current_preset() -> Preset:
    """The preset that ORBITFORGE_PRESET names, `tiny` when it is not set."""
    return load_preset(os.environ.get(VARIABLE) or DEFAULT)


@cache
def load_preset(name: str) -> Preset:
    """The preset called `name`, or the one in the file `name` when it ends in .yaml.

    `extends: OTHER` takes the values of another preset first; a video model of another `family` takes none of them. A
    preset that is extended extends none itself.
    Raises PresetError for an unknown preset, an unknown key, or a value out of its range.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    values = _read(path)
    if base := values.pop("extends", None):
        if base not in preset_names():
            raise PresetError(f"{path}: extends {str(base)[:80]!r}; choose one of {', '.join(preset_names())}")
        below = _read(FOLDER / f"{base}.yaml")
        if "extends" in below:
            raise PresetError(f"{path}: extends {base!r}, which extends {below['extends']!r}; one level is allowed")
        values = _merge(below, values)
    try:
        return Preset.model_validate({"name": path.stem, **values})
    except ValidationError as error:
        raise PresetError(f"{path}: {_first(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PresetError(f"no preset {path.stem!r} ({path} is missing); choose one of {', '.join(preset_names())}")
    try:
        values = read_yaml(path.read_bytes()) or {}
    except DocumentError as error:
        raise PresetError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise PresetError(f"{path}: holds a {type(values).__name__}, should hold sections such as `rendering:`")
    return values


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _another_family(old, value):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _another_family(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """The keys of one family of video models are not those of another."""
    return "family" in new and new["family"] != old.get("family", "wan")  # as `models.config` has it


def _first(error: ValidationError) -> str:
    """The first problem in one line; an unknown key is told together with the keys that exist there."""
    problem = error.errors()[0]
    *parents, last = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
    where = ".".join([*parents, last])
    if problem["type"] == "extra_forbidden":
        model = _model_at(Preset, parents)
        allowed = ", ".join(model.model_fields) if model else "none"
        return f"unknown key `{where[:200]}`; allowed there: {allowed}"
    if problem["type"] == "missing":
        return f"`{where}` is missing; give it a value"
    if not where:
        return problem["msg"].removeprefix("Value error, ")
    return f"`{where}` is {repr(problem['input'])[:200]}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _model_at(model: type[BaseModel], parents: list[str]) -> type[BaseModel] | None:
    for name in parents:
        field = model.model_fields.get(name)
        choices = [field.annotation] if field else []
        if field and get_origin(field.annotation) is not None:
            choices = list(get_args(field.annotation))
        found = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return None
        model = found[0]
    return model
