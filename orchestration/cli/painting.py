"""From a sentence to a picture, by the text-to-image model of the corpus."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from orchestration import paths
from orchestration.errors import OrbitforgeError
from orchestration.presets.schema import Preset
from stages.errors import InputError

Paint = Callable[[str, int], Float[np.ndarray, "3 h w"]]
"""RGB in 0..1 of a sentence and a seed; raises InputError when there is none."""

MODULE = "stages.corpus.text_to_image"


def painter(preset: Preset) -> Paint:
    """Loads the model. Raises OrbitforgeError or InputError that say what is missing."""
    try:
        module: Any = importlib.import_module(MODULE)
    except ModuleNotFoundError:
        raise OrbitforgeError(
            f"{MODULE}, which draws pictures from text, is not here; draw one elsewhere for `orbitforge reconstruct`"
        ) from None
    config = getattr(preset.corpus, "text", None)
    made = module.Painter(paths.data() / "base_models" / "text_to_image", config)

    def paint(text: str, seed: int) -> Float[np.ndarray, "3 h w"]:
        (image,) = made.paint([text], [seed])
        if isinstance(image, str):
            raise InputError(f"{text!r} gave no picture: {image}")
        return image

    return paint
