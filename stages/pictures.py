"""Pictures that others made, opened by the formats that are expected and never by a program."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from PIL import EpsImagePlugin, Image, UnidentifiedImageError

EpsImagePlugin.gs_binary = False  # else Pillow hands what says it is PostScript to Ghostscript, whoever asks it

FORMATS = (
    "PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "QOI", "PCX",
    "SGI", "PSD", "DDS",
)  # fmt: skip
"""Of Pillow's, those that hold pixels; others are PostScript, or stand for programs that would read them."""
BROKEN = (
    UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, ArithmeticError,
    LookupError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip
"""What Pillow raises of files that are damaged, beside Image.DecompressionBombError."""


def open_picture(source: Path | IO[bytes]) -> Image.Image:
    """By its header alone. Raises one of BROKEN, or Image.DecompressionBombError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # callers have limits of their own
        return Image.open(source, formats=FORMATS)
