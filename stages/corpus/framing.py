"""A picture that some text-to-image model drew, as the video model knows its first frames: one object on white, in the
middle, as large as renders are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from stages.corpus.config import TextToImageUse
from stages.quality.masks import connected, foreground
from stages.quality.saliency import salient

ENOUGH = 0.9
"""Share of the border that has to be white for the background to be so."""
NEAR = (0.85, 1.18)
"""A frame of the right size whose object is as large, within these factors, and in the middle stays as it is."""
MIDDLE = 0.06


class UnusableError(ValueError):
    """A picture that no clip can begin with, and why."""


def framed(image: Float[np.ndarray, "3 h w"], config: TextToImageUse, size: int) -> UInt8[np.ndarray, "s s 4"]:
    """The object of an RGB picture (0..1) on white, its box in the middle and `config.fill` of the frame long.

    Raises UnusableError when nothing stands out, when the object touches the border, or when the background is not
    white and no saliency network is there to find the object.
    """
    if not np.isfinite(image).all():
        raise UnusableError("the picture holds numbers that are not finite")
    mask = _object(image, config)
    share = float(mask.mean())
    if share < config.smallest:
        raise UnusableError(
            f"empty: the object covers {share:.1%} of the picture, at least {config.smallest:.1%} are needed"
        )
    touched = float(_border(mask).mean())
    if touched > config.border:
        raise UnusableError(f"cropped: the object touches {touched:.0%} of the border, more than {config.border:.0%}")
    around = ndimage.binary_dilation(mask, iterations=max(1, round(mask.shape[-1] / 64)))
    white = np.where(around, image, 1.0).transpose(1, 2, 0)
    pixels = np.concatenate((white, np.ones((*mask.shape, 1))), -1)
    return _centred((pixels * 255 + 0.5).clip(0, 255).astype(np.uint8), mask, config.fill, size)


def _object(image: Float[np.ndarray, "3 h w"], config: TextToImageUse) -> Bool[np.ndarray, "h w"]:
    if config.saliency is not None:
        return salient(image[None].astype(np.float32), config.saliency)[0]
    white = float((_border(image.min(0)) > 1 - config.whiteness).mean())
    mask = foreground(image[None], config.whiteness)[0]
    # an object that reaches out of a white picture is told apart by its being cropped
    if white < ENOUGH and mask.mean() > 0.95:
        raise UnusableError(f"background: {white:.0%} of the border is white; name a network in corpus.text.saliency")
    pieces = connected(mask[None], diagonal=True)[0]
    count = int(pieces.max())
    if count < 2:
        return mask
    sizes = ndimage.sum_labels(mask, pieces, range(1, count + 1))
    return np.isin(pieces, 1 + np.flatnonzero(sizes >= 0.05 * sizes.max()))  # specks are no part of it


def _border(values: np.ndarray) -> np.ndarray:
    return np.concatenate((values[0], values[-1], values[1:-1, 0], values[1:-1, -1]))


def _centred(
    rgba: UInt8[np.ndarray, "h w 4"], mask: Bool[np.ndarray, "h w"], fill: float, size: int
) -> UInt8[np.ndarray, "s s 4"]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(bottom - top, right - left) / fill  # of the square that becomes the frame
    y, x = (top + bottom) / 2, (left + right) / 2
    height, width = mask.shape
    off = max(abs(y - height / 2) / height, abs(x - width / 2) / width)
    if (height, width) == (size, size) and NEAR[0] <= size / side <= NEAR[1] and off <= MIDDLE:
        return rgba
    margin = int(np.ceil(side))
    roomy = np.pad(rgba, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
    box = (x - side / 2 + margin, y - side / 2 + margin, x + side / 2 + margin, y + side / 2 + margin)
    return np.asarray(Image.fromarray(roomy).resize((size, size), Image.Resampling.BICUBIC, box=box))
