"""Does a picture show what its prompt says? Judges of colour and of category, and pictures to hold the judges against.

The judge of colour compares the object's mean colour with those that the vocabulary's words stand for, in CIELAB. The
judge of category is a linear probe on the base encoder, taught on painted renders of training and invented objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int64
from skimage.color import rgb2lab
from torch import Tensor

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.base.captioned import painted, render_pictures
from stages.base.images import summary, weathered
from stages.prompts.vocabulary import Vocabulary, kind_of
from stages.rendering.config import RenderingConfig
from stages.seeds import torch_generator
from stages.video.figures import OBJECT
from stages.video.measure import orbits_from_new_cameras

BATCH = 256
KINDS = (
    "appliance",
    "bed",
    "cabinet",
    "chair",
    "lamp",
    "picture frame",
    "plant",
    "sculpture",
    "shelf",
    "sofa",
    "table",
    "vase",
)
"""What `stages.objects.invented` invents, in the vocabulary's words: there are enough of each to judge by."""


class Shown(NamedTuple):
    """Pictures on white, 0..1, and what they show: places in the lists of colours and of kinds."""

    images: Float[Tensor, "n 3 s s"]
    colour: Int64[Tensor, " n"]
    kind: Int64[Tensor, " n"]


@dataclass(frozen=True)
class Words:
    """What is told apart: `colours` with the sRGB values (0..1) that they stand for, and `kinds` of objects."""

    colours: tuple[str, ...]
    rgb: Float[Tensor, "c 3"]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Words:
        """The vocabulary's colours that have a value, and those of `KINDS` that it has as categories."""
        taught = [colour for colour in vocabulary.colours if colour.rgb]
        named = {category.word for category in vocabulary.categories}
        return cls(
            tuple(colour.word for colour in taught),
            torch.tensor([colour.rgb for colour in taught]),
            tuple(kind for kind in KINDS if kind in named),
        )

    def paint(
        self,
        rgb: Float[Tensor, "n 3 s s"],
        alpha: Float[Tensor, "n 1 s s"],
        kind: Int64[Tensor, " n"],
        generator: torch.Generator,
    ) -> Shown:
        """Each picture in a colour drawn at random, on white."""
        colour = torch.randint(len(self.colours), (len(rgb),), generator=generator)
        coloured = painted(rgb, alpha, self.rgb[colour], torch.zeros(len(rgb)))
        return Shown(coloured * alpha + 1 - alpha, colour, kind)


def known_renders(
    words: Words,
    objects: pl.DataFrame,
    meshes: Path,
    rendering: RenderingConfig,
    *,
    seed: int,
    invented_alone: bool = False,
) -> Shown:
    """Painted renders of training objects and of `rendering.invented` ones that `seed` invents, or of these alone."""
    pictures = render_pictures(objects, meshes, rendering, seed=seed, report=lambda event: None)
    kinds = torch.tensor([_number(kind, words) for kind in pictures.kinds])
    if invented_alone:
        kinds[: len(kinds) - rendering.invented] = -1  # the invented ones come last
    kinds = kinds[pictures.thing]
    rgba = pictures.rgba[kinds >= 0].permute(0, 3, 1, 2).float() / 255
    return words.paint(rgba[:, :3], rgba[:, 3:], kinds[kinds >= 0], torch_generator(seed, "colours"))


def unknown_renders(
    words: Words, objects: pl.DataFrame, meshes: Path, rendering: RenderingConfig, *, views: int, seed: int
) -> Shown:
    """The same of `objects` that no one trained on, `views` of each whose caption ends in a kind; maybe none."""
    kinds = [_number(caption, words) for caption in objects.sort("id")["caption"]]
    chosen = objects.sort("id").filter(pl.Series([kind >= 0 for kind in kinds]))
    if chosen.is_empty():
        none = torch.empty(0, dtype=torch.long)
        return Shown(torch.empty(0, 3, rendering.size, rendering.size), none, none)
    truth, _ = orbits_from_new_cameras(chosen, meshes, rendering, frames=views, copies=1, seed=seed)
    images = truth.flatten(0, 1)
    kind = torch.tensor([kind for kind in kinds if kind >= 0]).repeat_interleave(views)
    return words.paint(images, _object(images)[:, None].float(), kind, torch_generator(seed, "colours"))


def _number(caption: str, words: Words) -> int:
    """The longest kind that a caption ends in; -1 for none."""
    kind = kind_of(caption)
    fitting = [known for known in words.kinds if f" {kind}".endswith(f" {known}")]
    return words.kinds.index(max(fitting, key=len)) if fitting else -1


def named_colours(words: Words, images: Float[Tensor, "n 3 s s"]) -> Int64[Tensor, " n"]:
    """The colour whose value is nearest to the mean of the pixels that are not white; an empty picture is white."""
    mask = _object(images)[:, None].float()
    mean = (images * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)
    mean = torch.where(mask.sum((2, 3)) > 0, mean, 1.0)
    seen, known = (rgb2lab(rgb.numpy()) for rgb in (mean, words.rgb))
    return torch.from_numpy(np.linalg.norm(seen[:, None] - known, axis=-1).argmin(1))


def _object(images: Float[Tensor, "n 3 s s"]) -> Bool[Tensor, "n s s"]:
    return images.amin(1) < 1 - OBJECT


class KindJudge:
    """A linear probe on the encoder in `folder`."""

    def __init__(self, folder: Path, shown: Shown, *, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._encoder = load(folder, EncoderConfig, Encoder)
        # pictures that a network drew are softer than renders
        features = self._features(weathered(shown.images, torch_generator(seed, "weather")))
        self._probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, random_state=seed))
        self._probe.fit(features, shown.kind.numpy())

    def __call__(self, images: Float[Tensor, "n 3 s s"]) -> Int64[Tensor, " n"]:
        return torch.from_numpy(self._probe.predict(self._features(images)))

    def _features(self, images: Float[Tensor, "n 3 s s"]) -> Float[np.ndarray, "n d"]:
        with torch.inference_mode():
            return torch.cat([summary(self._encoder(part)) for part in images.split(BATCH)]).numpy()


def agreement(told: Int64[Tensor, " n"], judged: Int64[Tensor, " n"]) -> float:
    """Share of pictures that were judged to be what was told, 0..1."""
    return float((told == judged).float().mean())
