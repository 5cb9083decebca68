"""What a preset would take: hours, storage and cost of each asset, from counted work and replaceable rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import Preset
from stages.documents import DocumentError, read_yaml
from stages.objects.splits import HELD_OUT

if TYPE_CHECKING:
    from orchestration.lineage.current import Current

RATES = Path(__file__).parent / "rates.yaml"
CPU, GPU = "cpu", "gpu"
CHAIN, FLEXIVIEW = "chain", "flexiview"
FLOAT = 4
"""Bytes of a weight."""
SHARE_HELD_OUT = 0.3
"""Share of the objects that training never sees, as makers are split."""
TAR = 768
"""Bytes that a file in a tar takes beside its own: a header, and half a block of padding."""


class Device(BaseModel):
    """Units of work a second, and the price of an hour; a device that does not do some kind of work leaves it out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    price: float = Field(0.0, ge=0)
    samples: float | None = Field(None, gt=0)
    flops: float | None = Field(None, gt=0)
    rows: float | None = Field(None, gt=0)


class Rates(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: Device
    gpu: Device
    view_bytes: dict[int, float] = Field(min_length=1)
    label_bytes: float = Field(ge=0)

    @classmethod
    def read(cls, path: Path = RATES) -> Rates:
        """Raises OrbitforgeError for a file that is missing or holds anything else."""
        try:
            return cls.model_validate(read_yaml(path.read_bytes()))
        except (OSError, DocumentError, ValidationError) as error:
            told = " ".join(str(error).split())
            raise OrbitforgeError(f"{path} holds no rates ({told}); {RATES.name} shows how it looks") from None

    def bytes_of_view(self, size: int) -> float:
        """Of one view in a shard, by the measured size that is nearest."""
        nearest = min(self.view_bytes, key=lambda known: abs(known - size))
        return self.view_bytes[nearest] * size**2 + TAR


@dataclass(frozen=True)
class Scale:
    """How much there is to be made."""

    objects: int
    object_shards: int
    prompts: int
    prompt_shards: int
    kept: float
    held_out: int


@dataclass(frozen=True)
class Work:
    """What one asset takes: `amount` of `unit` ("samples", "flops", "rows"), giving `bytes` in `shards` shards."""

    asset: str
    items: int
    shards: int
    unit: str
    amount: float
    bytes: float
    on: str | None = None
    """The device, where it is not the one that the preset plans with."""


@dataclass(frozen=True)
class Estimate:
    """The same in hours of `device` (one core or one GPU) and money."""

    work: Work
    device: str
    hours: float
    cost: float


def scale_of(preset: Preset, tables: Mapping[str, Any]) -> Scale:
    """What the preset's `plan` names, and what it leaves out from the source tables (name -> polars frame)."""

    def counted(name: str, count: int | None, size: int) -> tuple[int, int]:
        return (count, ceil(count / size)) if count else (len(tables[name]), tables[name]["shard"].n_unique())

    plan = preset.plan
    objects, object_shards = counted("objects", plan.objects, plan.objects_per_shard)
    prompts, prompt_shards = counted("prompts", plan.prompts, plan.prompts_per_shard)
    held_out = round(SHARE_HELD_OUT * objects) if plan.objects else (tables["objects"]["split"] == HELD_OUT).sum()
    return Scale(objects, object_shards, prompts, prompt_shards, plan.kept, held_out)


def works(preset: Preset, scale: Scale, rates: Rates, job: str = CHAIN) -> Iterator[Work]:
    """The work of each asset of the job, in its order."""
    if job == FLEXIVIEW:
        from orchestration.planning_flexiview import flexiview_works

        return flexiview_works(preset, scale, rates)
    return chain_works(preset, scale, rates)


def chain_works(preset: Preset, scale: Scale, rates: Rates) -> Iterator[Work]:
    """The work of each asset of the chain, in its order."""
    from models.flops import BACKWARD, encoder_flops, parameters, planes_flops, point_flops, ray_flops, video_flops

    rendering, training = preset.rendering, preset.video.training
    denoise, decode = video_flops(video := preset.base.video.video)
    look = encoder_flops(preset.base.encoder.encoder)
    orbits = rendering.orbits * (scale.objects * rendering.variants + scale.object_shards * rendering.invented)
    views, passes = orbits * rendering.views, 1 + BACKWARD
    samples = (rendering.size * rendering.supersampling) ** 2
    view = rates.bytes_of_view(rendering.size)
    yield Work("rendered_views", orbits, scale.object_shards, "samples", views * samples, views * view)
    yield Work("rendered_manifest", orbits, 1, "rows", orbits, 100.0 * orbits)

    encoding = orbits * decode  # each clip's latents, once; as dear as decoding
    denoising = training.steps * training.batch * passes * denoise
    yield Work("video_model", training.steps, 1, "flops", encoding + denoising, FLOAT * parameters(video))

    clips, frames = scale.prompts, video.frames
    passes_a_step = 2 if max(preset.corpus.sampling.guidance) > 1 else 1
    clip = preset.corpus.steps * passes_a_step * denoise + decode
    size = frames * rates.bytes_of_view(video.size)
    yield Work("synthetic_corpus", clips, scale.prompt_shards, "flops", clips * clip, clips * size)
    yield Work("elevation_estimator", orbits, 1, "flops", views * look, 1e5)
    labels = clips * rates.label_bytes
    yield Work("quality_labels", clips, scale.prompt_shards, "flops", clips * frames * look, labels)
    yield Work("corpus_manifest", clips, 1, "rows", clips, 100.0 * clips)

    for asset, stage in (("lrm_pretrained", preset.pretrain), ("lrm_finetuned", preset.finetune)):
        lrm, steps, batch = preset.pretrain.model, stage.training.steps, stage.training.batch
        sample = passes * (planes_flops(lrm) + stage.draws.rays * ray_flops(lrm))
        yield Work(asset, steps, 1, "flops", steps * batch * sample, FLOAT * parameters(lrm))

    lrm, evaluation, protocol = preset.pretrain.model, preset.evaluation, preset.evaluation.protocol
    made = 2 * rendering.orbits * min(scale.held_out, protocol.most or scale.held_out)  # by two models
    targets = (rendering.views - 1) // protocol.every
    # the whole grid, of which empty blocks are skipped; judges by the base encoder. What is no network (distances of
    # surfaces, SSIM) is left out: seconds an asset, which is most of it where views have 32 px and little at 256
    each = planes_flops(lrm) + targets * (rendering.size**2 * ray_flops(lrm) + look)
    each += evaluation.mesh.grid**3 * point_flops(lrm)
    yield Work("evaluation", made, 1, "flops", made * each, 1e4 * made, on=CPU)


def estimates(preset: Preset, scale: Scale, rates: Rates, job: str = CHAIN) -> list[Estimate]:
    """Work over rates: models on the preset's device, the rest on cores.

    Raises OrbitforgeError when the rates do not tell what the device does.
    """
    found: list[Estimate] = []
    for work in works(preset, scale, rates, job):
        name = work.on or (preset.plan.device if work.unit == "flops" else CPU)
        device = rates.gpu if name == GPU else rates.cpu
        rate = getattr(device, work.unit)
        if rate is None:
            raise OrbitforgeError(f"the rates tell no {work.unit} of a {name}; {work.asset} needs them")
        hours = work.amount / rate / 3600
        found.append(Estimate(work, name, hours, hours * device.price))
    return found


def measured(current: Current, scale: Scale, rates: Rates, job: str = CHAIN) -> dict[str, dict[str, float]]:
    """asset -> {unit: units a second}, by the seconds that the ledger has of the newest rows of this preset."""
    found: dict[str, dict[str, float]] = {}
    for work in works(current.pipeline.preset, scale, rates, job):
        shards = current.pipeline.shards(step := current.pipeline.find(work.asset))
        newest = [current.newest(step.name, shard) for shard in shards]
        seconds = sum(each.seconds for each in newest if each)
        if seconds and all(newest):
            found[work.asset] = {work.unit: work.amount / seconds}
    return found
