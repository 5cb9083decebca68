"""The first frame of each clip: a render of the prompt's training object, or what a text-to-image model draws.

    FirstFrames(meshes, text_to_image, config, rendering, seed).draw(rows) -> a Frame, or the reason why not, for each

A frame follows from (seed, prompt) and, through floating point, from the prompts drawn beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from models.camera import Camera
from stages.corpus.config import CorpusConfig
from stages.corpus.framing import UnusableError, framed
from stages.corpus.text_to_image import Painter
from stages.objects.prompts import DEFORMED
from stages.prompts.vocabulary import kind_of, read_vocabulary, with_articles
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import MeshError, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator, sample_seed

RENDERED = "render of a training object, deformed and recoloured"
DRAWN = "drawn from text"


@dataclass(frozen=True)
class Frame:
    """`text` is what the picture shows, `how` it came about, `model` the version of what drew it, if something did."""

    rgba: UInt8[np.ndarray, "1 s s 4"]
    text: str
    how: str
    model: str | None = None


class FirstFrames:
    """Frames of `rendering.size` pixels. `meshes` is where `file` starts; `text_to_image` the pipeline of base_models.

    No pipeline is loaded before a prompt needs one; then `draw` raises InputError where there is none to use.
    """

    def __init__(
        self, meshes: Path, text_to_image: Path | None, config: CorpusConfig, rendering: RenderingConfig, seed: int
    ) -> None:
        self.meshes, self.config, self.rendering, self.seed = meshes, config, rendering, seed
        self._text_to_image = text_to_image

    def draw(self, rows: Sequence[dict[str, Any]]) -> list[Frame | str]:
        """One frame a row, in order, or why there is none."""
        texts = {number: self.wording(row) for number, row in enumerate(rows) if self.from_text(row)}
        drawn = dict(zip(texts, self._painted([rows[n] for n in texts], list(texts.values())), strict=True))
        return [drawn[number] if number in texts else self._rendered(row) for number, row in enumerate(rows)]

    def from_text(self, row: dict[str, Any]) -> bool:
        """Whether the row's frame is drawn from its text."""
        if row["object"] is None or self.config.first_frame == "text":
            return True
        return sample_seed(self.seed, row["id"], "text share") < self.config.text_share * 2**63

    def wording(self, row: dict[str, Any]) -> str:
        """The row's text; one that asks for an object to be recoloured names a colour instead."""
        text = row["text"]
        if row["object"] is None or not text.endswith(DEFORMED):
            return text
        number = numpy_generator(self.seed, row["id"], "colour").integers(len(self._colours))
        return with_articles(f"a {self._colours[number]} {kind_of(text.removesuffix(DEFORMED))}")

    def _rendered(self, row: dict[str, Any]) -> Frame | str:
        try:
            return Frame(first_frame(row, self.meshes, self.config, self.rendering, self.seed), row["text"], RENDERED)
        except MeshError as error:
            return f"no first frame: {error}"

    def _painted(self, rows: list[dict[str, Any]], texts: list[str]) -> list[Frame | str]:
        if not rows:
            return []
        seeds = [sample_seed(self.seed, row["id"], row["seed"], "first frame") for row in rows]
        found: list[Frame | str] = []
        for text, image in zip(texts, self._painter.paint(texts, seeds), strict=True):
            try:
                if isinstance(image, str):
                    raise UnusableError(image)
                rgba = framed(image, self.config.text, self.rendering.size)
                found.append(Frame(rgba[None], text, DRAWN, self._painter.version))
            except UnusableError as error:
                found.append(f"no first frame: {error}")
        return found

    @cached_property
    def _colours(self) -> list[str]:
        return [colour.word for colour in read_vocabulary().colours]

    @cached_property
    def _painter(self) -> Painter:
        return Painter(self._text_to_image, self.config.text)


def first_frame(
    row: dict[str, Any], meshes: Path, config: CorpusConfig, rendering: RenderingConfig, seed: int
) -> UInt8[np.ndarray, "1 s s 4"]:
    """The prompt's object, deformed and recoloured by the prompt's seed, from a camera that no training view has."""
    rng = numpy_generator(seed, row["id"], row["seed"])
    mesh = load_mesh(meshes / row["file"], rendering).stretched(draw_scale(rng, config.stretch), rendering.fit)
    colours = colour_matrix(rng, config.recolour)
    camera = Camera.orbit(
        1, rng.uniform(*config.elevation), rendering.radius, rendering.focal, azimuth=rng.uniform(0, 360)
    )
    return recoloured(render(mesh, camera, rendering).rgba, colours)
