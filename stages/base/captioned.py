"""Captioned pictures that the base text-to-image model learns from: single renders, painted as their captions say.

Of the caller's table only objects of the training split enter; invented ones, which know what they are, join them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from models.camera import Camera
from stages.base.views import Thing, things, training_rows
from stages.objects.invented import INVENTED
from stages.prompts.vocabulary import SLOTS, Vocabulary, kind_of, slots, with_articles
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import draw_scale
from stages.seeds import numpy_generator

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Pictures:
    """Renders with un-premultiplied colours, and of what: `thing` points into `kinds` and `details`."""

    rgba: UInt8[Tensor, "n s s 4"]
    thing: Int64[Tensor, " n"]
    kinds: tuple[str, ...]
    details: tuple[tuple[str, ...], ...]

    @cached_property
    def chances(self) -> Float64[np.ndarray, " n"]:
        """Where the draw of a number in 0..1 falls; a kind is drawn as the square root of its pictures."""
        numbers = {kind: number for number, kind in enumerate(sorted(set(self.kinds)))}
        kind = np.array([numbers[kind] for kind in self.kinds])[self.thing.numpy()]
        weights = np.bincount(kind)[kind] ** -0.5
        return np.minimum(np.cumsum(weights) / weights.sum(), 1)


def render_pictures(
    objects: pl.DataFrame,
    meshes: Path,
    rendering: RenderingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> Pictures:
    """`views` pictures of each version of every training object (`file` is below `meshes`) and invented one.

    A picture depends on (seed, object id, version) alone. A mesh that cannot be rendered is reported and left out.
    Raises ValueError when there is no training object.
    """
    rgba: list[UInt8[np.ndarray, "v s s 4"]] = []
    kinds: list[str] = []
    details: list[tuple[str, ...]] = []
    for thing in things(training_rows(objects), meshes, rendering, seed, report):
        for mesh, rng in _versions(thing, rendering, seed):
            turns = zip(
                rng.uniform(*rendering.elevation, rendering.views), rng.uniform(0, 360, rendering.views), strict=True
            )
            cameras = [Camera.orbit(1, up, rendering.radius, rendering.focal, around).numbers() for up, around in turns]
            rgba.append(render(mesh, Camera.from_numbers(torch.cat(cameras)), rendering).rgba)
            kinds.append(kind_of(thing.kind))
            details.append(thing.details)
    owner = torch.arange(len(rgba)).repeat_interleave(rendering.views)
    return Pictures(torch.from_numpy(np.concatenate(rgba)), owner, tuple(kinds), tuple(details))


def _versions(thing: Thing, rendering: RenderingConfig, seed: int) -> Iterator[tuple[Mesh, np.random.Generator]]:
    """An invented thing as it is, an object in `variants` shapes, the first its own; and the generator of its views."""
    if thing.id.startswith(INVENTED):
        yield thing.mesh, numpy_generator(seed, thing.id, "views")
        return
    for variant in range(rendering.variants):
        rng = numpy_generator(seed, thing.id, variant)
        scale = draw_scale(rng, rendering.stretch)
        yield thing.mesh.stretched(scale, rendering.fit) if variant else thing.mesh, rng


class Captions:
    """Sentences of a vocabulary about things whose colour, kind and parts are known.

    Material, style and size are not to be seen in these pictures: their words are drawn at random, so that the model
    learns to pass over them.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.colours = [colour for colour in vocabulary.colours if colour.rgb]
        self.templates = [(template, set(slots(template.word))) for template in vocabulary.templates]

    def write(self, kind: str, parts: tuple[str, ...], colour: str | None, rng: np.random.Generator) -> str:
        """A sentence of a template whose slots can all be filled truly."""
        lacking = {"part"} - ({"part"} if parts else set())
        lacking |= set() if colour else {"colour"}
        fitting = [t.word for t, needs in self.templates if not needs & lacking and ("colour" in needs) == bool(colour)]
        template = fitting[rng.integers(len(fitting))] if fitting else "a {colour} {category}"
        words = {slot: self.vocabulary.words(slot) for slot in ("material", "style", "size")}
        filled = {slot: some[rng.integers(len(some))].word for slot, some in words.items() if some}
        filled |= {"category": kind, "colour": colour or "", "part": parts[rng.integers(len(parts))] if parts else ""}
        return with_articles(" ".join(template.format(**filled).split()))

    def texts(self, kinds: tuple[str, ...]) -> list[str]:
        """All words that may be written."""
        named = [word.word for slot in SLOTS for word in self.vocabulary.words(slot)]
        templates = [template.word.format_map(_Nothing()) for template, _ in self.templates]
        return [*named, *templates, *kinds, "an"]


class _Nothing(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return " "


def painted(
    rgb: Float[Tensor, "n 3 s s"],
    alpha: Float[Tensor, "n 1 s s"],
    colour: Float[Tensor, "n 3"],
    keep: Float[Tensor, " n"],
) -> Float[Tensor, "n 3 s s"]:
    """The pictures in a colour, with their light and shade, and `keep` (0..1) of their own colours."""
    light = (rgb * rgb.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    mean = (light * alpha).sum((2, 3), keepdim=True) / alpha.sum((2, 3), keepdim=True).clamp(min=1e-6)
    shade = (light / mean.clamp(min=0.05)).clamp(0.3, 1.7)
    own = keep[:, None, None, None]
    return ((1 - own) * shade * colour[:, :, None, None] + own * rgb).clamp(0, 1)
