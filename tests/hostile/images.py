"""Pictures: bombs, programs, metadata without end, and pixels that are not there."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile.case import Attack, Place, written


def square(size: int = 64, mode: str = "RGB") -> Image.Image:
    """A red square on white, which is an object that a reconstruction takes; one corner of it is blue."""
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[size // 4 : -size // 4, size // 4 : -size // 4] = (200, 30, 30)
    pixels[size // 4 : size // 3, size // 4 : size // 3] = (30, 30, 200)
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, kind: str = "PNG", **told: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **told)
    return buffer.getvalue()


PNG = saved(square())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, *further: bytes, depth: int = 8, kind: int = 0) -> bytes:
    """`data` is what is packed into IDAT."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *further, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"".join(parts)


def bomb_png(width: int, height: int, rows: int = 1000) -> bytes:
    """A grey picture of zeros; of the many rows that it claims `rows` are there."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b"\0" * (width + 1)) for _ in range(min(height, rows))) + packer.flush()
    return png(width, height, data)


def eps(place: Place) -> bytes:
    """A picture whose reading starts a program; the `gs` that it finds first leaves a mark, see the doors."""
    return (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n({place.ran}) (w) file closefile\nshowpage\n%%EOF\n"
    ).encode()


def _exif(orientation: Any) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def _junk_exif() -> bytes:
    data = saved(square(), "JPEG", exif=_exif(6))
    at = data.index(b"Exif\0\0") + 6
    return data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :]


def _gif(frames: int, size: int = 16) -> bytes:
    images = [square(size).rotate(90 * (k % 4) + k % 7).convert("P") for k in range(8)]
    first, *rest = [images[k % 8] for k in range(frames)]
    return saved(first, "GIF", save_all=True, append_images=rest, duration=10)


def _tiff_loop() -> bytes:
    """A directory of pictures whose next one is the first again."""
    data = bytearray(saved(square(), "TIFF"))
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


def _huge_bmp() -> bytes:
    return struct.pack("<2sIHHI", b"BM", 100, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0
    )


def huge_gif() -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0xF0, 0, 0)
        + b"\0" * 6
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


def _with_eps(place: Place) -> Any:
    path = place.given / "a.png"
    path.write_bytes(eps(place))
    return path


def _fifo(place: Place) -> Any:
    import os

    os.mkfifo(place.given / "a.png")
    return place.given / "a.png"


def _device(place: Place) -> Any:
    (place.given / "a.png").symlink_to("/dev/zero")
    return place.given / "a.png"


def _folder(place: Place) -> Any:
    (place.given / "a.png").mkdir()
    return place.given / "a.png"


_zeros = zlib.compress(b"\0" * 50_000_000, 9)
FIRST = "the first frame, as it is"
SHOWN = "the square is found in it"

ATTACKS = (
    written("a good picture", PNG, SHOWN, called="a.png"),
    written("png of 100,000 x 100,000", lambda: bomb_png(100_000, 100_000), called="a.png"),
    written("png of 20,000 x 20,000", lambda: bomb_png(20_000, 20_000), called="a.png"),
    written("png of 9,900 x 9,900 of zeros", lambda: bomb_png(9_900, 9_900, 9_900), called="a.png"),
    written("png of 2^31 x 2^31", png(2**31 - 1, 2**31 - 1, b""), called="a.png"),
    written("png of 0 x 0", png(0, 0, b""), called="a.png"),
    written("png of 1 x 1", saved(Image.new("RGB", (1, 1))), called="a.png"),
    written("png of 100,000,000 x 1", lambda: bomb_png(100_000_000, 1), called="a.png"),
    written("png whose data are a bomb", png(64, 64, _zeros), called="a.png"),
    written("png with 50 MB in zTXt", PNG[:33] + chunk(b"zTXt", b"a\0\0" + _zeros) + PNG[33:], called="a.png"),
    written("png with 50 MB in iTXt", PNG[:33] + chunk(b"iTXt", b"a\0\1\0\0\0" + _zeros) + PNG[33:], called="a.png"),
    written(
        "png with 50 MB of colour profile",
        PNG[:33] + chunk(b"iCCP", b"a\0\0" + _zeros) + PNG[33:],
        called="a.png",
    ),
    written(
        "png with 20,000 chunks of text",
        PNG[:33] + chunk(b"tEXt", b"a\0" + b"b" * 1000) * 20_000 + PNG[33:],
        SHOWN,
        called="a.png",
    ),
    written("png cut short", PNG[: len(PNG) // 2], called="a.png"),
    written("png with a wrong checksum", PNG[:29] + b"\0\0\0\0" + PNG[33:], called="a.png"),
    written("png without data", png(64, 64, b""), called="a.png"),
    written("png of an unknown colour type", png(64, 64, zlib.compress(b"\0" * 5000), kind=5), called="a.png"),
    written("png of 3 bits", png(64, 64, zlib.compress(b"\0" * 5000), depth=3), called="a.png"),
    written("png of a palette without one", png(64, 64, zlib.compress(b"\0" * 64 * 65), kind=3), called="a.png"),
    written(
        "apng of 4 billion frames",
        PNG[:33] + chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)) + PNG[33:],
        SHOWN,
        called="a.png",
    ),
    written("jpeg whose EXIF turns by 99", saved(square(), "JPEG", exif=_exif(99)), SHOWN, called="a.jpg"),
    written(
        "jpeg whose EXIF turns by text",
        saved(
            square(),
            "JPEG",
            exif=_exif(6)
            .replace(b"\x12\x01\x03\x00", b"\x12\x01\x02\x00")
            .replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"),
        ),
        SHOWN,
        called="a.jpg",
    ),
    written("jpeg of junk EXIF", _junk_exif(), SHOWN, called="a.jpg"),
    written(
        "jpeg of 65,500 x 65,500",
        saved(square(), "JPEG").replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65500, 65500), 1),
        called="a.jpg",
    ),
    written("jpeg cut short", saved(square(256), "JPEG")[:900], called="a.jpg"),
    written("jpeg of CMYK", saved(square(64, "CMYK"), "JPEG"), "converted, and said so", called="a.jpg"),
    written(
        "mpo of two pictures", saved(square(), "MPO", save_all=True, append_images=[square()]), FIRST, called="a.jpg"
    ),
    written("gif of 3,000 frames", lambda: _gif(3000), FIRST, called="a.gif"),
    written("gif of 65,535 x 65,535", huge_gif(), called="a.gif"),
    written(
        "webp of 200 frames",
        saved(square(16), "WEBP", save_all=True, append_images=[square(16).rotate(k) for k in range(200)]),
        FIRST,
        called="a.webp",
    ),
    written("webp cut short", saved(square(), "WEBP")[:40], called="a.webp"),
    written("tiff whose pictures go round", _tiff_loop(), FIRST, called="a.tif"),
    written(
        "tiff of 32 bit floats that are NaN",
        saved(Image.fromarray(np.full((64, 64), np.nan, np.float32)), "TIFF"),
        called="a.tif",
    ),
    written(
        "tiff of 32 bit floats of 10^30",
        saved(Image.fromarray(np.full((64, 64), 1e30, np.float32)), "TIFF"),
        called="a.tif",
    ),
    written("tiff cut short", saved(square(), "TIFF")[:60], called="a.tif"),
    written("bmp of 2^30 x 2^30", _huge_bmp(), called="a.bmp"),
    written(
        "ico of a large png",
        b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0"
        + struct.pack("<II", len(bomb_png(30_000, 30_000)), 22)
        + bomb_png(30_000, 30_000),
        called="a.ico",
    ),
    written(
        "png of 16 bits",
        saved(Image.fromarray(np.pad(np.full((32, 32), 9000, np.uint16), 16, constant_values=65535))),
        "converted, and said so",
        called="a.png",
    ),
    written(
        "svg called png",
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        called="a.png",
    ),
    written("html called png", "<script>alert(1)</script>", called="a.png"),
    written("pdf called png", "%PDF-1.4\n1 0 obj\n", called="a.png"),
    written("empty picture", "", called="a.png"),
    written("picture of one byte", "P", called="a.png"),
    written("ppm of 10^9 x 10^9", b"P6 1000000000 1000000000 255\n", called="a.ppm"),
    written("ppm whose size has 5,000 digits", b"P6 " + b"9" * 5000 + b" 1 255\n", called="a.ppm"),
    written("psd of nothing", b"8BPS\0\1" + b"\0" * 30, called="a.png"),
    written("fits called png", b"SIMPLE  =                    T" + b" " * 50, called="a.png"),
    written(
        "xbm that is code",
        "#define x_width 2147483647\n#define x_height 2147483647\nstatic char b[] = {0x00};",
        called="a.png",
    ),
    written("picture called by markup", PNG[:50], called="[red]a[/x].png"),
    written("picture called by escape sequences", PNG[:50], called="\x1b[2Ja.png"),
    Attack("eps called png, for Ghostscript", _with_eps),
    Attack("pipe called png", _fifo),
    Attack("endless device called png", _device),
    Attack("folder called png", _folder),
)
