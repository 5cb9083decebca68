"""The multi-view image model: a text-to-image pipeline fine-tuned on rings of views of rendered training objects.

train(manifest, shards, base, output, scratch, config, rings, *, seed, report, loggers=None)
    -> output/{config.json, model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/, training.parquet,
       views.png}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Float, Int64
from torch import Tensor, nn

from models.multiview import MultiviewModel, build_pipeline
from models.multiview_config import BackboneConfig, MultiviewConfig
from models.quiet import quiet
from stages.corpus.config import TextToImageUse
from stages.corpus.text_to_image import find_pipeline, load_pipeline
from stages.errors import InputError
from stages.multiview.config import MultiviewTrainingConfig
from stages.multiview.figures import view_figures
from stages.multiview.rings import Shown, draw, read_rings, shown, told_rings
from stages.objects.splits import HELD_OUT, TRAIN
from stages.rendering.rings import RingsConfig
from stages.seeds import sample_seed, torch_generator
from stages.training import fit
from stages.video.sheets import save_sheet

SHEET = 16  # rows of the picture of made and true views


class Batch(NamedTuple):
    """Views of objects, and which of them is the picture; they are encoded where the UNet is."""

    views: Float[Tensor, "n v 3 s s"]
    own: Int64[Tensor, " n"]
    tokens: Int64[Tensor, "n t"]


def train(
    manifest: Path,
    shards: Path,
    base: Path,
    output: Path,
    scratch: Path,
    config: MultiviewTrainingConfig,
    rings: RingsConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    loggers: list[Any] | None = None,
) -> None:
    """Fine-tune the UNet of the pipeline in `base` (or `config.at`) on the training objects of `manifest` (a Parquet
    file; tars below `shards`). Any view of an object is the picture, those at its azimuth are what it should give.

    The curve holds figures of both splits, `train/...` and `held-out/...`, see `view_figures`.
    Raises InputError for a pipeline that cannot be used.
    """
    table = pl.read_parquet(manifest)
    seen = read_rings(table, shards, TRAIN, rings)
    apart = table.filter((pl.col("split") == HELD_OUT) & pl.col("reason").is_null())
    splits = {TRAIN: seen} | ({} if apart.is_empty() else {HELD_OUT: read_rings(table, shards, HELD_OUT, rings)})
    model = begin(base, config, rings, seen.views.shape[-2], seed=seed)
    model.requires_grad_(False)
    model.unet.requires_grad_(True)

    def batch(generator: torch.Generator, _: int) -> Batch:
        count, colours = config.training.batch, config.permute_colours
        drawn = draw(seen, count, generator, permute_colours=colours, captioned=config.captioned)
        return Batch(drawn.views, drawn.own, model.tokens(drawn.captions))

    def measure(trained: MultiviewModel) -> Mapping[str, float]:
        figures: dict[str, float] = {}
        sheet: tuple[Tensor, ...] = ()
        for split, part in splits.items():
            asked = shown(part, config.measured, torch_generator(seed, split, "measured"))
            made = views(trained, asked, config.sampling_steps, torch_generator(seed, split, "measured noise"))
            found = view_figures(made, asked.views, asked.own, rings.elevations)
            figures |= {f"{split}/{name}": value for name, value in found.items()}
            sheet = asked.pictures[:SHEET, None], made[:SHEET], asked.views[:SHEET]
        save_sheet(output / "views.png", *sheet)  # of the last split: objects that training has not seen
        return figures

    curve = fit(
        model,
        lambda m, batch, generator: views_loss(m, batch, config.pure_noise, generator),
        batch,
        config.training,
        seed=seed,
        scratch=scratch,
        report=report,
        loggers=loggers,
        tell=lambda generator: told_rings(seen, config.training.batch, generator),
        validate=measure,
    )
    model.save(output)
    curve.write_parquet(output / "training.parquet")


def begin(base: Path, config: MultiviewTrainingConfig, rings: RingsConfig, size: int, *, seed: int) -> MultiviewModel:
    """The model before its training. Raises InputError for a pipeline that cannot be used."""
    folder = find_pipeline(base, TextToImageUse.model_validate({"at": config.at}))
    with quiet():
        pipeline = load_pipeline(folder, "cpu")
    if type(pipeline) is not StableDiffusionPipeline:
        raise InputError(
            f"{folder} holds a {type(pipeline).__name__}; the multi-view model needs a StableDiffusionPipeline: name "
            "one in multiview.at"
        )
    if config.backbone is not None:
        check_shapes(pipeline, config.backbone, folder)
    try:
        settings = MultiviewConfig(
            size=size, elevations=rings.elevations, columns=config.columns, objective=config.objective
        )
        return MultiviewModel.begin(pipeline, settings, sample_seed(seed, "weights"))
    except ValueError as error:
        reason = error.errors()[0]["msg"] if hasattr(error, "errors") else error  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(f"{folder}: {reason}") from None


def check_shapes(pipeline: Any, wanted: BackboneConfig, folder: Path) -> None:
    """Raises InputError for the first weight of another shape than the preset says."""
    with torch.device("meta"):
        expected = build_pipeline(wanted)
    for part in ("unet", "vae", "text_encoder"):
        have, want = (_shapes(getattr(each, part)) for each in (pipeline, expected))
        for name in sorted(have.keys() | want.keys()):
            if have.get(name) != want.get(name):
                raise InputError(
                    f"{folder / part}: {name} is {have.get(name, 'missing')} instead of {want.get(name, 'missing')}; "
                    "put its shapes into multiview.backbone, or name another pipeline in multiview.at"
                )


def _shapes(part: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in part.named_parameters()}


def views_loss(model: MultiviewModel, batch: Batch, pure_noise: float, generator: torch.Generator) -> dict[str, Tensor]:
    with torch.no_grad():
        clean = model.encode(batch.views.flatten(0, 1)).unflatten(0, batch.views.shape[:2])
    picture = clean[torch.arange(len(clean), device=clean.device), batch.own]
    return model.loss(clean, picture, batch.tokens, pure_noise, generator)


def views(
    model: MultiviewModel, asked: Shown, steps: int, generator: torch.Generator, batch: int = 32
) -> Float[Tensor, "n e 3 s s"]:
    """Made of the pictures alone: without their captions, as of a picture that somebody brings."""
    noise = torch.randn(len(asked.own), *model.latent_shape(), generator=generator)
    parts = zip(asked.pictures.split(batch), noise.split(batch), strict=True)
    made = [
        model.sample(pictures.to(model.device), [""] * len(pictures), part.to(model.device), steps).cpu()
        for pictures, part in parts
    ]
    return torch.cat(made)
