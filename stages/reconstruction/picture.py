"""A picture of anything that Pillow reads, as the reconstruction model knows its inputs: one object on white.

read_picture(path) -> Picture            what the file shows, and what was converted on the way
object_picture(picture, size, fill) -> the object, in the middle, RGB on white
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import ExifTags, Image, ImageOps
from scipy import ndimage
from torch import Tensor

from stages.errors import InputError
from stages.pictures import BROKEN, open_picture
from stages.quality.config import SaliencyConfig
from stages.quality.masks import foreground
from stages.quality.saliency import salient

LARGEST = 2048  # pixels a side that are kept; no model here sees more
LEAST = 8  # pixels along the longer side of an object
MOST = 100_000_000  # pixels that are decoded at all
WHITENESS = 0.08  # how far from the background's colour a background pixel may be
PLAIN = 0.9  # share of the border that has to be of one colour for the background to be so


@dataclass(frozen=True)
class Picture:
    """Straight RGBA as bytes; `notes` say what was converted, `name` where it came from."""

    rgba: UInt8[np.ndarray, "h w 4"]
    name: str
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        Image.fromarray(self.rgba).save(path)


def read_picture(source: Path | bytes, name: str | None = None) -> Picture:
    """The first frame of a picture, turned as its EXIF says, as 8 bit RGBA of at most LARGEST pixels a side.

    Grey, palette, CMYK and 16 bit are converted. Raises InputError for what is no picture, is cut short, or has more
    than MOST pixels.
    """
    name = name or str(source if isinstance(source, Path) else "the picture")
    try:
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"{name} is no file")
        image = open_picture(source if isinstance(source, Path) else io.BytesIO(source))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} is too large to be read: {error}") from None
    except BROKEN as error:
        raise InputError(f"{name} is no picture that can be read: {error}") from None
    with image:
        width, height = image.size
        if width * height > MOST:
            raise InputError(
                f"{name} has {width} x {height} pixels, at most {MOST // 10**6} million are read; make it smaller"
            )
        try:
            return _converted(image, name)
        except InputError:
            raise
        except (*BROKEN, Image.DecompressionBombError) as error:
            raise InputError(f"{name} is damaged or cut short: {error}") from None


def _converted(image: Image.Image, name: str) -> Picture:
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"the first of {frames} frames is used")
    if image.format == "JPEG" and max(image.size) > LARGEST:
        size = image.size
        image.draft(None, (LARGEST, LARGEST))  # decodes at a half, a quarter or an eighth
        notes += [] if image.size == size else [f"{size[0]} x {size[1]} pixels were read smaller"]
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        notes.append("turned as its EXIF orientation says")
    ImageOps.exif_transpose(image, in_place=True)
    mode, turned = image.mode, image
    if mode in ("I", "F") or mode.startswith("I;16"):
        turned = _eight_bits(turned, name)
        notes.append(f"{mode} converted to 8 bit")
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        turned = turned.convert("RGB")
        notes.append(f"{mode} converted to RGB without its colour profile")
    rgba = turned if turned.mode == "RGBA" else turned.convert("RGBA")
    if max(rgba.size) > LARGEST:
        size = rgba.size
        rgba.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        notes.append(f"{size[0]} x {size[1]} pixels made {rgba.width} x {rgba.height}")
    return Picture(np.asarray(rgba), name, tuple(notes))


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 or 32 bits: 65535 is white, or 255 where no number is larger; floats are in 0..1."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds numbers that are not finite")
    if image.mode == "F":
        if values.min() < 0 or values.max() > 1:
            raise InputError(
                f"{name} holds floats from {values.min():.3g} to {values.max():.3g}, 0 to 1 are read; convert it"
            )
        values = values * 255
    elif image.mode != "I" or values.max() > 255:
        values = values / 257
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def object_mask(picture: Picture, saliency: SaliencyConfig | None = None) -> Bool[np.ndarray, "h w"]:
    """Where the object is: alpha where the picture has any; else by the saliency network, where one is named; else all
    that the colour of the border does not reach. Raises InputError when nothing is there, or nothing can tell.
    """
    alpha, rgb = picture.rgba[..., 3], picture.rgba[..., :3]
    if alpha.min() < 128:
        mask = alpha > 127
        if not mask.any():
            raise InputError(f"{picture.name} shows nothing: it is fully transparent")
        return mask
    image = rgb.transpose(2, 0, 1).astype(np.float32) / 255
    if saliency is not None:
        mask = salient(image[None], saliency)[0]
        if not mask.any():
            raise InputError(f"{picture.name} shows nothing that stands out to {saliency.at}")
        return mask
    border = np.concatenate((image[:, 0], image[:, -1], image[:, 1:-1, 0], image[:, 1:-1, -1]), 1)
    ground = np.median(border, 1)
    plain = float((np.abs(border - ground[:, None]).max(0) < WHITENESS).mean())
    mask = foreground(1 - np.abs(image - ground[:, None, None])[None], WHITENESS)[0]
    if not mask.any():
        raise InputError(
            f"{picture.name} shows nothing: every pixel is transparent, white or of the colour of its border"
        )
    if plain < PLAIN:
        raise InputError(
            f"{picture.name}: {plain:.0%} of its border has one colour, so its background cannot be told from the "
            "object; cut the object out (transparency), put it on a plain background, or name a saliency network"
        )
    return mask


def object_picture(
    picture: Picture, size: int, fill: float, saliency: SaliencyConfig | None = None
) -> Float[Tensor, "3 s s"]:
    """The object of a picture, centred on white so that its longer side takes `fill` of it, RGB in 0..1.

    Raises InputError as `object_mask` does, and for objects of less than LEAST pixels.
    """
    mask = object_mask(picture, saliency)
    rgba = picture.rgba.copy()
    if rgba[..., 3].min() >= 128:
        # on white, pixels beside the object are its own soft edge
        around = ndimage.binary_dilation(mask, np.ones((3, 3), dtype=bool)) if _on_white(rgba, mask) else mask
        rgba[..., 3] = np.where(around, 255, 0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if (longest := max(int(np.ptp(rows)), int(np.ptp(columns))) + 1) < LEAST:
        raise InputError(f"{picture.name} shows an object of {longest} pixels, at least {LEAST} are needed; show more")
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    side = round(max(box[2] - box[0], box[3] - box[1]) / fill)
    cut = Image.fromarray(rgba).crop(box)
    white = Image.new("RGBA", (side, side), "white")
    white.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2), cut)
    small = white.convert("RGB").resize((size, size), Image.Resampling.BOX if side > size else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255


def _on_white(rgba: UInt8[np.ndarray, "h w 4"], mask: Bool[np.ndarray, "h w"]) -> bool:
    outside = rgba[..., :3][~mask]
    return bool(len(outside)) and float(np.median(outside.min(-1))) > 255 * (1 - WHITENESS)
