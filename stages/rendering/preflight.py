"""What a mesh file says about itself, read before a loader trusts it: counts, and the other files that it names.

Loaders allocate what a header asks for, follow any path, and pass over a texture that is not there.
"""

from __future__ import annotations

import hashlib
import io
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from PIL import Image

from stages.documents import DocumentError, read_json
from stages.pictures import BROKEN, open_picture
from stages.rendering.mesh import MeshError

LARGEST_ACCESSOR = 1 << 28
"""Elements of a glTF accessor that no buffer backs."""
COMPRESSED = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu"}
ELEMENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}


def preflight(path: Path) -> None:
    """Raise MeshError, `reason: error`, for a file that should not be given to a loader."""
    with _unreadable_otherwise():
        if not path.is_file():
            raise MeshError(f"unreadable: {path.name} is missing")
        references(path)
        check = {".glb": _gltf_counts, ".gltf": _gltf_counts, ".ply": _ply_counts, ".stl": _stl_counts}.get(
            path.suffix.lower()
        )
        if check:
            check(path)


@contextmanager
def _unreadable_otherwise() -> Iterator[None]:
    """What a file holds may be of any type in any place, and its names may be none: each is a reason, not our fault."""
    try:
        yield
    except (MeshError, MemoryError):
        raise
    except Exception as error:
        # what a disk says names the whole path, which is another one elsewhere
        words = (isinstance(error, OSError) and error.strerror) or str(error)
        raise MeshError(f"unreadable: {type(error).__name__}: {words[:200]}") from error


def references(path: Path) -> list[Path]:
    """The other files that make up the object: buffers, materials, textures.

    Raises MeshError when one is missing, or lies outside the folder of `path`.
    """
    named = {".glb": _gltf_names, ".gltf": _gltf_names, ".obj": _obj_names}.get(path.suffix.lower())
    found: list[Path] = []
    missing: dict[str, str] = {}
    for kind, name in named(path) if named else ():
        file = _inside(path.parent, name)
        if file is None:
            missing[name] = kind
        elif file not in found:
            found.append(file)
    if missing:
        kinds = sorted(set(missing.values()))
        raise MeshError(f"missing {' and '.join(kinds)}: {', '.join(sorted(missing))}")
    return found


def content_md5(path: Path) -> str:
    """Of the file and of all that it refers to; that of the file itself when it stands alone.

    Raises MeshError as `references` does, and when the file is missing.
    """
    with _unreadable_otherwise():
        if not path.is_file():
            raise MeshError(f"unreadable: {path.name} is missing")
        digest = hashlib.md5()
        for each in (path, *references(path)):
            with each.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def _inside(folder: Path, name: str) -> Path | None:
    """The file called `name` in `folder`, None if there is none. Raises MeshError for a name that leaves the folder."""
    root = folder.resolve()
    file = root / name
    if urlsplit(name).scheme or "\\" in name or ".." in Path(name).parts or Path(name).is_absolute():
        raise MeshError(f"refused: {name!r} is outside of the object's folder")
    if not file.is_file():
        return None
    if not file.resolve().is_relative_to(root):
        raise MeshError(f"refused: {name!r} links out of the object's folder")
    return file


# OBJ


def _obj_names(path: Path) -> Iterator[tuple[str, str]]:
    libraries: dict[str, None] = {}
    used: set[str] = set()
    with path.open("rb") as file:
        head = file.read(1024)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head:
            raise MeshError("unreadable: UTF-16 or binary, an OBJ is ASCII or UTF-8")
        file.seek(0)
        for line in file:
            key, *rest = line.split(maxsplit=1)[:2] or [b""]
            if rest and key == b"mtllib":
                libraries[rest[0].decode(errors="replace").strip()] = None
            elif rest and key == b"usemtl":
                used.add(" ".join(rest[0].decode(errors="replace").split()))
    for name in libraries:
        yield "materials", name
        if file := _inside(path.parent, name):
            yield from _textures(file, used)


def _textures(library: Path, used: set[str]) -> Iterator[tuple[str, str]]:
    """The colour maps of the materials that are used; those alone are rendered."""
    material = ""
    for line in library.read_text("utf-8", errors="replace").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key.lower() == "newmtl":
            material = " ".join(rest.split())
        elif key.lower() == "map_kd" and rest.strip() and material in used:
            name = rest.strip()
            yield "textures", name
            if file := _inside(library.parent, name):
                _refuse_broken_picture(file, name)


def _refuse_broken_picture(file: Path | io.BytesIO, name: str) -> None:
    """By its header; a loader would render the object without it."""
    try:
        open_picture(file).close()
    except Image.DecompressionBombError as error:
        raise MeshError(f"refused: {name} is too large a picture") from error
    except BROKEN as error:
        raise MeshError(f"missing textures: {name} is no picture") from error


# glTF


def _document(path: Path) -> dict[str, Any]:
    """The JSON of a .gltf or .glb file."""
    try:
        if path.suffix.lower() == ".gltf":
            document = read_json(path.read_bytes())
        else:
            with path.open("rb") as file:
                header = file.read(20)
                length = int.from_bytes(header[12:16], "little")
                if header[:4] != b"glTF" or len(header) < 20:
                    raise MeshError("unreadable: no glTF header")
                if int.from_bytes(header[4:8], "little") != 2:
                    raise MeshError("unsupported: glTF 1.0; convert it to 2.0")
                if length > path.stat().st_size:
                    raise MeshError(f"absurd counts: a chunk of {length} bytes in a file of {path.stat().st_size}")
                document = read_json(file.read(length))
    except DocumentError as error:
        raise MeshError(f"unreadable: {type(error).__name__}: {error}") from error
    if not isinstance(document, dict):
        raise MeshError("unreadable: the JSON of a glTF file is no object")
    version = str(document.get("asset", {}).get("version", ""))
    if not version.startswith("2"):
        raise MeshError(f"unsupported: glTF {version or 'without a version'}; convert it to 2.0")
    if needed := COMPRESSED & set(document.get("extensionsRequired", [])):
        raise MeshError(f"unsupported: needs {', '.join(sorted(needed))}; store it uncompressed")
    return document


def _gltf_names(path: Path) -> Iterator[tuple[str, str]]:
    document = _document(path)
    for kind, key in (("buffers", "buffers"), ("textures", "images")):
        for each in document.get(key, []):
            uri = str(each.get("uri", ""))
            if uri and not uri.startswith("data:"):
                yield kind, unquote(uri)
                if kind == "textures" and (file := _inside(path.parent, unquote(uri))):
                    _refuse_broken_picture(file, unquote(uri))


def _gltf_counts(path: Path) -> None:
    document = _document(path)
    _refuse_loops(document.get("nodes", []))
    for number, picture in enumerate(document.get("images", [])):
        if (uri := str(picture.get("uri", ""))).startswith("data:"):
            _refuse_broken_picture(io.BytesIO(b64decode(uri.partition(",")[2])), f"picture {number}")
    if path.suffix.lower() == ".glb":
        _refuse_broken_pictures(path, document)
    views = document.get("bufferViews", [])
    for number, accessor in enumerate(document.get("accessors", [])):
        count, view = int(accessor["count"]), accessor.get("bufferView")
        size = count * ELEMENTS.get(accessor["type"], 1) * BYTES.get(accessor["componentType"], 1)
        room = LARGEST_ACCESSOR if view is None else int(views[view]["byteLength"])
        if size > room:
            raise MeshError(f"absurd counts: accessor {number} asks for {size} bytes of {room}")


def _refuse_broken_pictures(path: Path, document: dict[str, Any]) -> None:
    """The pictures inside of a GLB."""
    with path.open("rb") as file:
        start = 20 + int.from_bytes(file.read(20)[12:16], "little") + 8
        for number, picture in enumerate(document.get("images", [])):
            if (view := picture.get("bufferView")) is None:
                continue
            where = document["bufferViews"][view]
            file.seek(start + int(where.get("byteOffset", 0)))
            _refuse_broken_picture(io.BytesIO(file.read(int(where["byteLength"]))), f"picture {number}")


def _refuse_loops(nodes: list[dict[str, Any]]) -> None:
    """Nodes are a forest: one with two parents, or its own ancestor, would be walked again and again."""
    parents: dict[int, int] = {}
    for parent, node in enumerate(nodes):
        for child in node.get("children", []):
            if child in parents:
                raise MeshError(f"unreadable: node {child} has two parents, {parents[child]} and {parent}")
            parents[child] = parent
    safe: set[int] = set()
    for start in range(len(nodes)):
        chain: list[int] = []
        above: int | None = start
        while above is not None and above not in safe:
            chain.append(above)
            if len(chain) > len(nodes):
                raise MeshError(f"unreadable: node {start} hangs in or below a loop")
            above = parents.get(above)
        safe.update(chain)


# PLY and STL


def _ply_counts(path: Path) -> None:
    """An element takes a byte or more, so that there cannot be more of them than bytes."""
    with path.open("rb") as file:
        header = file.read(65536).partition(b"end_header")[0]
    total = path.stat().st_size
    for name, count in re.findall(rb"(?m)^element\s+(\w+)\s+(\d+)", header):
        if int(count) > total:
            raise MeshError(f"absurd counts: {int(count)} of {name.decode()} in a file of {total} bytes")


def _stl_counts(path: Path) -> None:
    total = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(84)
    count = int.from_bytes(header[80:84], "little")
    if len(header) == 84 and not header.lstrip().startswith(b"solid") and 84 + 50 * count > total:
        raise MeshError(f"absurd counts: {count} faces in a file of {total} bytes")
