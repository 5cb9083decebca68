"""Shards of views: members with paths, metadata of another form, cameras that are none, pictures that are bombs."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import numpy as np

from models.camera import Camera
from stages.shards import encode_png
from tests.hostile.case import MARK, Attack, Place, written
from tests.hostile.images import bomb_png, eps, saved, square

VIEWS = [encode_png(np.array(square(16, "RGBA").rotate(90 * k))) for k in range(4)]
META = {
    "cameras": Camera.orbit(4, 6.0).numbers().tolist(),
    "caption": "a chair",
    "licence": "CC0-1.0",
    "elevation": 6.0,
}


def tar(*members: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sample(id_: str = "a", meta: Any = META, views: list[bytes] | None = None) -> list[tuple[Any, bytes]]:
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    pictures = VIEWS if views is None else views
    return [*((f"{id_}.{number:02d}.png", data) for number, data in enumerate(pictures)), (f"{id_}.json", text)]


def _shard(name: str, data: Any, harmless: str = "") -> Attack:
    return written(name, data, harmless, called="000/views.tar")


def _member(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _cameras(value: float, *, everywhere: bool = False) -> bytes:
    cameras = np.array(META["cameras"])
    cameras[1, 3] = 12345.5
    if everywhere:
        cameras[:] = 12345.5
    return json.dumps(META | {"cameras": cameras.tolist()}).replace("12345.5", repr(value)).encode()


def _piped(place: Place) -> None:
    """A folder whose name a reader of WebDataset takes for a command."""
    folder = place.given / f"pipe:touch ran; cat {'x' * 10}"
    folder.mkdir(parents=True)
    (folder / "views.tar").write_bytes(tar(*sample()))


def _braces(place: Place) -> None:
    folder = place.given / "{000..999}"
    folder.mkdir(parents=True)
    (folder / "views.tar").write_bytes(tar(*sample()))


def _eps(place: Place) -> None:
    (place.given / "000").mkdir()
    (place.given / "000" / "views.tar").write_bytes(tar(*sample(views=[eps(place)] * 4)))


def _sparse(size: int, *more: tuple[Any, bytes]) -> bytes:
    info = tarfile.TarInfo("a.json")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "a.json",
        "GNU.sparse.realsize": str(size),
    }
    return tar((info, b"1\n0\n1\n" + b"{}" * 300), *more)


def _sized() -> bytes:
    info = tarfile.TarInfo("a.json")
    info.pax_headers = {"size": str(2**62)}
    return tar((info, b"{}"))


DEEP = b"[" * 100_000
SINGULAR = META | {"cameras": [[0.0] * 16] * 4}
TRUE = "the sample is as it should be"

ATTACKS = (
    _shard("a good shard", tar(*sample()), TRUE),
    _shard("members above the folder", tar(*((f"../../{MARK}{name}", data) for name, data in sample()))),
    _shard("members by absolute name", tar(*((f"/tmp/{MARK}{name}", data) for name, data in sample()))),
    _shard("members of escape sequences", tar(*sample("\x1b]0;x\x07\x1b[2J"))),
    _shard("members of markup", tar(*sample("[bold]")), TRUE),
    _shard("member that is a link", tar((_member("a.json", tarfile.SYMTYPE), b""))),
    _shard("member that is a hard link", tar((_member("a.json", tarfile.LNKTYPE), b""))),
    _shard("member that is a device", tar((_member("a.json", tarfile.CHRTYPE), b""))),
    _shard("member that is a pipe", tar((_member("a.json", tarfile.FIFOTYPE), b""))),
    _shard(
        "links in a circle",
        tar((_member("a.json", tarfile.SYMTYPE, "b.json"), b""), (_member("b.json", tarfile.SYMTYPE, "a.json"), b"")),
    ),
    _shard("member of 2^62 bytes", _sized()),
    _shard("member that is sparse", _sparse(2**50)),
    _shard("member that is sparse and longer than files are", _sparse(2**62, *sample())),
    _shard("members called twice", tar(*sample(), *sample())),
    _shard("samples called twice", tar(*sample("a"), *sample("b"), *sample("a"))),
    _shard("names of 5,000 letters", tar(*sample("a" * 5000))),
    _shard("names with NUL", tar(("a\0b.json", b"{}"))),
    _shard("names without a sample", tar(("noname", b"a"), (".json", b"{}"))),
    _shard("json without a view", tar(*sample(views=[]))),
    _shard("views without json", tar(*sample()[:-1])),
    _shard("a view is missing", tar(*sample(views=VIEWS[:3]))),
    _shard("views of other sizes", tar(*sample(views=[*VIEWS[:3], encode_png(np.zeros((8, 8, 4), np.uint8))]))),
    _shard("views that are grey", tar(*sample(views=[saved(square(16, "L"))] * 4))),
    _shard("views that are palettes", tar(*sample(views=[saved(square(16, "P"))] * 4))),
    _shard("views that are jpegs", tar(*sample(views=[saved(square(16), "JPEG")] * 4))),
    _shard("views of half a png", tar(*sample(views=[VIEWS[0][:60]] * 4))),
    _shard("views of 20,000 x 20,000", lambda: tar(*sample(views=[bomb_png(20_000, 20_000)] * 4))),
    _shard("views of 12,000 x 12,000", lambda: tar(*sample(views=[bomb_png(12_000, 12_000, 12_000)] * 4))),
    _shard(
        "views of 1 x 1",
        tar(*sample(views=[encode_png(np.zeros((1, 1, 4), np.uint8))] * 4)),
        "nothing is seen, and nothing is wrong",
    ),
    _shard("10,000 views", lambda: tar(*sample(views=VIEWS[:1] * 10_000))),
    _shard("json of brackets", tar(*sample(meta=DEEP))),
    _shard("json that is a list", tar(*sample(meta=[]))),
    _shard("json that is text", tar(*sample(meta="cameras"))),
    _shard("json of bytes", tar(*sample(meta=b"\xff\xfe\x80"))),
    _shard("json without cameras", tar(*sample(meta={}))),
    _shard("cameras that are a number", tar(*sample(meta=META | {"cameras": 4}))),
    _shard("cameras that are text", tar(*sample(meta=META | {"cameras": "abcd"}))),
    _shard("cameras of text", tar(*sample(meta=META | {"cameras": [["a"] * 16] * 4}))),
    _shard("cameras of three numbers", tar(*sample(meta=META | {"cameras": [[1, 2, 3]] * 4}))),
    _shard("cameras of ragged rows", tar(*sample(meta=META | {"cameras": [[1] * 16, [1] * 15, [1] * 16, [1] * 16]}))),
    _shard("cameras of NaN", tar(*sample(meta=_cameras(float("nan")).replace(b"nan", b"NaN")))),
    _shard("cameras of infinity", tar(*sample(meta=_cameras(1.0).replace(b"1.0,", b"1e999,", 1)))),
    _shard("cameras of 10^30", tar(*sample(meta=_cameras(1e30)))),
    _shard("cameras of 10^30 everywhere", tar(*sample(meta=_cameras(1e30, everywhere=True)))),
    _shard("cameras that are singular", tar(*sample(meta=SINGULAR))),
    _shard("cameras of 5,000 digits", tar(*sample(meta=_cameras(1.0).replace(b"1.0", b"9" * 5000, 1)))),
    _shard(
        "cameras that are mirrored", tar(*sample(meta=META | {"cameras": [[-c[0], *c[1:]] for c in META["cameras"]]}))
    ),
    _shard("elevation that is text", tar(*sample(meta=META | {"elevation": "high"}))),
    _shard("elevation of NaN", tar(*sample(meta=json.dumps(META | {"elevation": 7.5}).replace("7.5", "NaN").encode()))),
    _shard("elevation of 10^300", tar(*sample(meta=META | {"elevation": 1e300}))),
    _shard(
        "pickle beside the views",
        tar(
            *sample(),
            ("a.pyd", b"\x80\x04cos\nsystem\n(S'touch /tmp/ran'\ntR."),
            ("a.pkl", b"cos\nsystem\n(S'touch /tmp/ran'\ntR."),
            ("a.pth", b"PK"),
        ),
        TRUE,
    ),
    _shard(
        "torch file beside the views",
        tar(*sample(), ("a.pt", b"\x80\x02."), ("a.npy", b"\x93NUMPY\x01\0"), ("a.mp4", b"x")),
        TRUE,
    ),
    _shard("tar cut short", tar(*sample())[:1000]),
    _shard("tar of noise", np.random.default_rng(0).bytes(10_000)),
    _shard("tar that is empty", b""),
    _shard("tar of zeros", b"\0" * 10_240),
    _shard("gzip of zeros called tar", lambda: gzip.compress(b"\0" * 100_000_000)),
    _shard("zip called tar", b"PK\3\4" + b"\0" * 600),
    _shard("pickle called tar", b"\x80\x04." + b"\0" * 600),
    Attack("folder called by a command", _piped, TRUE),
    Attack("folder called by braces", _braces, TRUE),
    Attack("views that are programs for Ghostscript", _eps),
)
