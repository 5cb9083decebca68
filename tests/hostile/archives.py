"""Zips and furniture libraries: names that lead out, links, bombs, members that stand in each other's way."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable

from tests.hostile.case import MARK, Attack, Place
from tests.stages.awkward import TRIANGLE

MESH = (TRIANGLE + "f 1 2 3\n").encode()
ONE = "the triangle in it, and nothing else"


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def mode(name: str, bits: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = bits << 16
    return info


def _renamed(name: bytes) -> bytes:
    """A member of a name that zipfile does not write; as long as the one it replaces."""
    return zipped(("x" * len(name), MESH)).replace(b"x" * len(name), name)


def _bomb(megabytes: int, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    return zipped(("a.obj", b"\0" * (megabytes << 20)), packing=packing)


def _lying(data: bytes, size: int) -> bytes:
    """Both headers of the first member say that it has `size` bytes."""
    at = data.rindex(b"PK\1\2")
    changed = bytearray(data)
    struct.pack_into("<I", changed, at + 24, size)
    struct.pack_into("<I", changed, 22, size)
    return bytes(changed)


def _overlapping() -> bytes:
    """Many names for the bytes of one member, as the better bombs have it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", b"\0" * 40_000_000)
        first = archive.infolist()[0]
        for number in range(2000):
            info = zipfile.ZipInfo(f"{number}.obj")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                setattr(info, field, getattr(first, field))
            archive.filelist.append(info)
    return buffer.getvalue()


def _encrypted() -> bytes:
    data = bytearray(zipped(("a.obj", MESH)))
    data[6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    return bytes(data)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(f"../{MARK}.obj")
        info.size = len(MESH)
        archive.addfile(info, io.BytesIO(MESH))
    return buffer.getvalue()


def _zip(name: str, data: bytes | Callable[[], bytes], harmless: str = "", called: str = "a.zip") -> Attack:
    def make(place: Place) -> None:
        (place.given / called).write_bytes(data if isinstance(data, bytes) else data())

    return Attack(name, make, harmless)


def _absolute(place: Place) -> None:
    (place.given / "a.zip").write_bytes(zipped((f"{place.root}/{MARK}.obj", MESH)))


def _link_then_through(place: Place) -> None:
    link = mode("door", stat.S_IFLNK | 0o777)
    (place.given / "a.zip").write_bytes(zipped((link, str(place.root).encode()), (f"door/{MARK}.obj", MESH)))


CATALOGUE = "PluginFurnitureCatalog.properties"


def _library(name: str, catalogue: str | bytes, harmless: str = "", *more: tuple[str, bytes]) -> Attack:
    own = catalogue.replace("id#1=a\n", f"id#1={name}\n") if isinstance(catalogue, str) else ""  # as others have theirs
    text = catalogue if isinstance(catalogue, bytes) else own.encode("latin-1", "replace")
    return _zip(name, zipped((CATALOGUE, text), ("a.obj", MESH), *more), harmless, "a.sh3f")


def _entry(**facts: str) -> str:
    told = {"id": "a", "name": "A", "model": "/a.obj", "creator": "Ada", "category": "chairs"} | facts
    return "".join(f"{key}#1={value}\n" for key, value in told.items())


NESTED = _bomb(20)
for _ in range(4):
    NESTED = zipped(*((f"{number}.zip", NESTED) for number in range(16)))

ATTACKS = (
    _zip("a good archive", zipped(("a.obj", MESH)), ONE),
    _library("a good library", _entry(), ONE),
    _zip("member above the folder", zipped((f"../{MARK}.obj", MESH))),
    _zip("member far above the folder", zipped(("../" * 20 + f"tmp/{MARK}.obj", MESH))),
    _zip("member up and down", zipped((f"a/../../{MARK}.obj", MESH))),
    _zip("member with backslashes", _renamed(rb"..\..\escaped.obj")),
    _zip("member on a drive", zipped((f"C:/{MARK}.obj", MESH))),
    Attack("member by absolute name", _absolute),
    _zip("member is a link", zipped((mode("a.obj", stat.S_IFLNK | 0o777), b"/etc/passwd"))),
    Attack("member through a link", _link_then_through),
    _zip(
        "member is a device",
        zipped((mode("a.obj", stat.S_IFCHR | 0o666), MESH)),
        "a file like others, without a device",
    ),
    _zip("member is a pipe", zipped((mode("a.obj", stat.S_IFIFO | 0o666), MESH)), "a file like others, and no pipe"),
    _zip(
        "member that is setuid",
        zipped((mode("a.obj", stat.S_IFREG | 0o4777), MESH)),
        "a file like others, with plain rights",
    ),
    _zip("member twice", lambda: zipped(("a.obj", b"no mesh"), ("a.obj", MESH)), ONE),
    _zip("member and a folder of its name", zipped(("a.obj", MESH), ("a.obj/b.obj", MESH))),
    _zip("folder and then a member of its name", zipped(("a/b.obj", MESH), ("a", MESH))),
    _zip("name of 5,000 letters", zipped(("a" * 5000 + ".obj", MESH))),
    _zip("name of 300 letters", zipped(("a" * 300 + ".obj", MESH))),
    _zip("folders 2,000 deep", zipped(("a/" * 2000 + "b.obj", MESH))),
    _zip("name with NUL", _renamed(b"a\0b.obj")),
    _zip("name that is a dot", zipped((".", MESH))),
    _zip("name of escape sequences", zipped(("\x1b[31m\x07.obj", MESH))),
    _zip("name of markup", zipped(("[/bold].obj", MESH)), ONE),
    _zip("name that is no utf-8", _renamed(b"\xff\xfe.obj"), ONE),
    _zip("bomb of 1 GB", lambda: _bomb(1024)),
    _zip("bomb of 200 MB by bzip2", lambda: _bomb(200, zipfile.ZIP_BZIP2)),
    _zip("bomb of 200 MB by lzma", lambda: _bomb(200, zipfile.ZIP_LZMA)),
    _zip("bomb that says it has 10 bytes", lambda: _lying(_bomb(200), 10)),
    _zip("bomb of 2,000 names for one member", _overlapping),
    _zip("bomb of nested zips", NESTED),
    _zip("size of 4 GB in 100 bytes", _lying(zipped(("a.obj", MESH)), 2**32 - 2)),
    _zip("65,000 members", lambda: zipped(*((f"{number}.txt", b"") for number in range(65_000)))),
    _zip("encrypted", _encrypted()),
    _zip("cut short", zipped(("a.obj", MESH))[:-30]),
    _zip("end record alone", b"PK\5\6" + b"\0" * 18),
    _zip("directory past the file", zipped(("a.obj", MESH))[:-6] + b"\xff\xff\xff\x7f\0\0"),
    _zip("wrong checksum", zipped(("a.obj", MESH), packing=zipfile.ZIP_STORED).replace(b"v 1 0 0", b"v 9 0 0", 1)),
    _zip(
        "unknown packing",
        zipped(("a.obj", MESH))
        .replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0")
        .replace(b"\x14\x03\x14\0\0\0\x08\0", b"\x14\x03\x14\0\0\0\x63\0"),
    ),
    _zip("text called zip", b"no archive"),
    _zip("tar called zip", _tar()),
    _zip("empty file called zip", b""),
    _library("model above the library", _entry(model="/../../etc/passwd")),
    _library("model by absolute name", _entry(model="//etc/passwd")),
    _library("model with a drive", _entry(model="C:/a.obj")),
    _library("model with NUL", _entry(model="/a\0.obj")),
    _library("model of 5,000 letters", _entry(model="/" + "a" * 5000)),
    _library("model that is the library's folder", _entry(model="/")),
    _library("title of escape sequences", _entry(name=r"\u001b[31mred\u0007")),
    _library("creator of escape sequences", _entry(creator=r"\u001b]0;x\u0007")),
    _library("creator that turns its direction", _entry(creator=r"Ada\u202e\u2066")),
    _library("creator of 100,000 letters", _entry(creator="a" * 100_000)),
    _library("creator that is half a surrogate pair", _entry(creator=r"\ud800")),
    _library("creator of a formula", _entry(creator="=HYPERLINK(1)"), "text in Parquet, which no spreadsheet runs"),
    _library("rotation of NaN", _entry(modelRotation="nan " * 9), "as it lies in its file"),
    _library("rotation of zeros", _entry(modelRotation="0 " * 9)),
    _library("rotation of 10^30", _entry(modelRotation="1e30 " * 9), "as it lies in its file"),
    _library("number of 5,000 digits", "name#" + "9" * 5000 + "=a\n"),
    _library("catalogue of binary noise", bytes(range(256)) * 100),
    _library("catalogue without entries", ""),
    _library("id of nothing but signs", _entry(id="../.."), "the id is made plain"),
    _library("endless backslashes", _entry(name="\\" * 100_001)),
    _zip("library without a catalogue", zipped(("a.obj", MESH)), called="a.sh3f"),
    _zip("library whose catalogue is a bomb", lambda: zipped((CATALOGUE, b"\0" * 150_000_000)), called="a.sh3f"),
)
