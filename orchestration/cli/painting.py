"""From a sentence to a picture, by the text-to-image model of the corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from models.quiet import quiet
from orchestration import paths
from orchestration.presets.schema import Preset
from stages.errors import InputError

if TYPE_CHECKING:
    from stages.reconstruction.picture import Picture

Paint = Callable[[str, int], "Picture"]
"""The picture of a prompt and a seed; raises InputError when there is none."""


def worded(prompt: str) -> str:
    """The prompt in the form in which prompts are kept, on one line. Raises InputError where a corpus refuses it."""
    import polars as pl

    from stages.prompts.screen import ScreenConfig, read_unsafe, screened

    try:
        table = pl.DataFrame({"text": [" ".join(prompt.split())]})
    except UnicodeEncodeError:
        raise InputError("the prompt holds what is no letter of any script; say what to make: 'a red chair'") from None
    kept, refused = screened(table, ScreenConfig.model_validate({}), read_unsafe())
    for text, reason, detail in refused.select("text", "reason", "detail").iter_rows():
        raise InputError(
            f"the prompt has {len(text)} characters and is refused: {reason}{f' ({detail})' if detail else ''}; "
            "say what to make: 'a red chair'"
        )
    return kept["text"][0]


def painter(preset: Preset) -> Paint:
    """Loads the model. Raises InputError that says what is missing."""
    from stages.corpus.framing import UnusableError, framed
    from stages.corpus.text_to_image import Painter
    from stages.reconstruction.picture import Picture

    config = preset.corpus.text
    with quiet():
        made = Painter(paths.data() / "base_models" / "text_to_image", config)

    def paint(text: str, seed: int) -> Picture:
        (image,) = made.paint([text], [seed])
        try:
            if isinstance(image, str):
                raise UnusableError(image)
            return Picture(framed(image, config, image.shape[-1]), f"the picture of {text!r}")
        except UnusableError as error:
            raise InputError(f"{text!r} gave no picture: {error}; try another seed, or other words") from None

    return paint
