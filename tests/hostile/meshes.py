"""Meshes: headers that promise too much, references that lead out, graphs without end, numbers that are none."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np

from tests.hostile.case import Attack, Place, several, written
from tests.hostile.images import PNG, bomb_png, eps
from tests.stages.awkward import POINTS, TRIANGLE, gltf

DATA = "data:application/octet-stream;base64," + base64.b64encode(POINTS).decode()


def inline(**changes: Any) -> dict[str, Any]:
    """One triangle in one file."""
    return gltf(**{"buffers": [{"uri": DATA, "byteLength": 36}], **changes})


def glb(document: Any, binary: bytes = POINTS, *, told: int | None = None) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body) if told is None else told) + body


def textured(picture: bytes, kind: str = "image/png") -> bytes:
    """A GLB with a triangle whose texture is `picture`."""
    uv = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32).tobytes()
    binary = POINTS + uv + picture
    return glb(
        gltf(
            buffers=[{"byteLength": len(binary)}],
            bufferViews=[
                {"buffer": 0, "byteLength": 36},
                {"buffer": 0, "byteOffset": 36, "byteLength": 24},
                {"buffer": 0, "byteOffset": 60, "byteLength": len(picture)},
            ],
            accessors=[
                {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
                {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"},
            ],
            meshes=[{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "material": 0}]}],
            materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            textures=[{"source": 0}],
            images=[{"bufferView": 2, "mimeType": kind}],
        ),
        binary,
    )


def chain(depth: int) -> list[dict[str, Any]]:
    return [{"children": [number + 1]} for number in range(depth)] + [{"mesh": 0}]


def numbers(*values: float) -> str:
    data = np.array(values, dtype=np.float32).tobytes()
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def _gltf(name: str, document: Any, harmless: str = "") -> Attack:
    return written(
        name, document if isinstance(document, str) else json.dumps(document), harmless, called=f"{name}.gltf"
    )


def _symlinked_buffer(place: Place) -> None:
    (place.root / "secret.bin").write_bytes(POINTS)
    place.given.joinpath("link.bin").symlink_to(place.root / "secret.bin")
    (place.given / "a.gltf").write_text(json.dumps(gltf(buffers=[{"uri": "link.bin", "byteLength": 36}])))


def _eps_texture(place: Place) -> None:
    (place.given / "a.glb").write_bytes(textured(eps(place)))


def _directory_called_mesh(place: Place) -> None:
    (place.given / "a.glb").mkdir()
    (place.given / "b.obj").write_text("")


def _dangling(place: Place) -> None:
    (place.given / "a.glb").symlink_to(place.given / "nothing.glb")


def _itself(place: Place) -> None:
    (place.given / "a.glb").symlink_to("a.glb")


def ply(vertices: str, faces: str, body: str = "", form: str = "ascii") -> str:
    return (
        f"ply\nformat {form} 1.0\nelement vertex {vertices}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {faces}\nproperty list uchar int vertex_indices\nend_header\n{body}"
    )


SQUARE = "0 0 0\n1 0 0\n0 1 0\n"
MANY = 100_000
HARMLESS = "one triangle, and nothing else was read"
LONG = "a" * 5000
MTL = f"mtllib a.mtl\n{TRIANGLE}usemtl a\nf 1 2 3\n"
ACCESSOR = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}


ATTACKS = (
    _gltf("a good mesh", inline(), HARMLESS),
    written("a good mesh with a texture", textured(PNG), HARMLESS, called="a.glb"),
    # glTF: counts and offsets
    written("glb of 4 GB by its header", glb(inline(), told=2**32 - 1), HARMLESS, called="a.glb"),
    written(
        "glb whose json chunk is longer than the file",
        struct.pack("<4sIII4s", b"glTF", 2, 20, 2**31, b"JSON"),
        called="a.glb",
    ),
    written("glb with nothing after its header", struct.pack("<4sII", b"glTF", 2, 12), called="a.glb"),
    written("glb of random bytes", np.random.default_rng(0).bytes(4096), called="a.glb"),
    _gltf("accessor of two billion", inline(accessors=[ACCESSOR | {"count": 2**31}])),
    _gltf("accessor of a negative count", inline(accessors=[ACCESSOR | {"count": -1}])),
    _gltf(
        "accessor of infinitely many", json.dumps(inline(accessors=[ACCESSOR | {"count": 7.5}])).replace("7.5", "1e999")
    ),
    _gltf("accessor whose count is a list", inline(accessors=[ACCESSOR | {"count": [3]}])),
    _gltf("accessor of an unknown type", inline(accessors=[ACCESSOR | {"type": "VEC99"}])),
    _gltf("accessor whose type is a list", inline(accessors=[ACCESSOR | {"type": [3]}])),
    _gltf("accessor of an unknown component", inline(accessors=[ACCESSOR | {"componentType": 99}])),
    _gltf(
        "accessor without a buffer, 2^28 elements",
        inline(accessors=[{"componentType": 5121, "count": 2**28, "type": "SCALAR"}]),
    ),
    _gltf("accessor far past its view", inline(accessors=[ACCESSOR | {"byteOffset": 2**40}])),
    _gltf("view past its buffer", inline(bufferViews=[{"buffer": 0, "byteOffset": 2**40, "byteLength": 36}])),
    _gltf("view of a negative offset", inline(bufferViews=[{"buffer": 0, "byteOffset": -36, "byteLength": 36}])),
    _gltf("view of a stride of zero", inline(bufferViews=[{"buffer": 0, "byteStride": 0, "byteLength": 36}])),
    _gltf("view of a huge stride", inline(bufferViews=[{"buffer": 0, "byteStride": 2**30, "byteLength": 36}])),
    _gltf("view of buffer 7 of 1", inline(bufferViews=[{"buffer": 7, "byteLength": 36}])),
    _gltf(
        "sparse accessor of two billion",
        inline(
            accessors=[
                ACCESSOR
                | {
                    "sparse": {
                        "count": 2**31,
                        "indices": {"bufferView": 0, "componentType": 5125},
                        "values": {"bufferView": 0},
                    }
                }
            ]
        ),
        HARMLESS,
    ),
    _gltf(
        "indices out of range",
        inline(
            accessors=[ACCESSOR, {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"}],
            bufferViews=[{"buffer": 0, "byteLength": 36}, {"buffer": 1, "byteLength": 12}],
            buffers=[
                {"uri": DATA, "byteLength": 36},
                {"uri": "data:;base64," + base64.b64encode(struct.pack("<3I", 0, 1, 2**31)).decode(), "byteLength": 12},
            ],
            meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        ),
    ),
    _gltf("buffer of base64 that is none", inline(buffers=[{"uri": "data:;base64,%%%%", "byteLength": 36}])),
    _gltf("buffer of 2^60 bytes", inline(buffers=[{"uri": DATA, "byteLength": 2**60}]), HARMLESS),
    # glTF: the document
    _gltf("json of 100,000 brackets", "[" * MANY),
    _gltf("json of 100,000 objects in each other", '{"a":' * MANY),
    _gltf("json with a number of 100,000 digits", '{"asset": {"version": "2.0"}, "x": ' + "9" * MANY + "}"),
    _gltf("json with two of each key", '{"asset": {"version": "2.0"}, "asset": 3}'),
    _gltf("json of a string", '"glTF"'),
    _gltf("asset is a list", inline(asset=[2.0])),
    _gltf("buffers are numbers", inline(buffers=[1, 2])),
    _gltf("buffers is a number", inline(buffers=12)),
    _gltf("images are strings", inline(images=["a.png"])),
    _gltf("uri is an object", inline(buffers=[{"uri": {"a": 1}, "byteLength": 36}])),
    _gltf("extensions are objects", inline(extensionsRequired=[{}])),
    _gltf("extensionsRequired is a number", inline(extensionsRequired=5)),
    _gltf("nodes is a string", inline(nodes="abc")),
    _gltf("children are strings", inline(nodes=[{"mesh": 0, "children": ["a"]}])),
    _gltf("children are lists", inline(nodes=[{"mesh": 0, "children": [[0]]}])),
    _gltf("mesh 99 of 1", inline(nodes=[{"mesh": 99}])),
    _gltf("primitive mode 99", inline(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "mode": 99}]}])),
    _gltf("draco without data", inline(extensionsRequired=["KHR_draco_mesh_compression"])),
    _gltf(
        "draco that is not required",
        inline(
            extensionsUsed=["KHR_draco_mesh_compression"],
            meshes=[
                {
                    "primitives": [
                        {
                            "attributes": {"POSITION": 0},
                            "extensions": {
                                "KHR_draco_mesh_compression": {"bufferView": 9, "attributes": {"POSITION": 0}}
                            },
                        }
                    ]
                }
            ],
        ),
        HARMLESS,
    ),
    # glTF: the graph
    _gltf("node cycle", inline(nodes=[{"children": [1]}, {"children": [0], "mesh": 0}])),
    _gltf("node of itself", inline(nodes=[{"mesh": 0, "children": [0]}])),
    _gltf("node chain of 10,000", inline(nodes=chain(10_000)), "one triangle at its end"),
    _gltf("100,000 nodes of one mesh", inline(nodes=[{"mesh": 0}] * MANY, scenes=[{"nodes": list(range(MANY))}])),
    _gltf(
        "node with two parents",
        inline(nodes=[{"children": [2]}, {"children": [2]}, {"mesh": 0}], scenes=[{"nodes": [0, 1]}]),
    ),
    _gltf("scene 99 of 1", inline(scene=99)),
    _gltf("matrix of NaN", json.dumps(inline(nodes=[{"mesh": 0, "matrix": [0.5] * 16}])).replace("0.5", "NaN")),
    _gltf("matrix of 10^38", inline(nodes=[{"mesh": 0, "matrix": [1e38] * 16}]), "one triangle; no such turn is made"),
    _gltf("matrix of three numbers", inline(nodes=[{"mesh": 0, "matrix": [1, 2, 3]}])),
    _gltf("rotation of zero", inline(nodes=[{"mesh": 0, "rotation": [0, 0, 0, 0]}]), HARMLESS),
    _gltf("scale of infinity", json.dumps(inline(nodes=[{"mesh": 0, "scale": [7.5, 1, 1]}])).replace("7.5", "1e999")),
    # glTF: references
    _gltf("buffer in /etc", inline(buffers=[{"uri": "../../../../../../etc/passwd", "byteLength": 36}])),
    _gltf(
        "buffer in /etc, escaped twice", inline(buffers=[{"uri": "%252e%252e/%252e%252e/etc/passwd", "byteLength": 36}])
    ),
    _gltf("buffer by file url", inline(buffers=[{"uri": "file:///etc/passwd", "byteLength": 36}])),
    _gltf("buffer from the net", inline(buffers=[{"uri": "http://127.0.0.1:9/a.bin", "byteLength": 36}])),
    _gltf("buffer with NUL in its name", inline(buffers=[{"uri": "a%00.bin", "byteLength": 36}])),
    _gltf("buffer with a name of 5,000 letters", inline(buffers=[{"uri": LONG, "byteLength": 36}])),
    _gltf("buffer of a broken IPv6 url", inline(buffers=[{"uri": "http://[", "byteLength": 36}])),
    _gltf("buffer with a lone surrogate", inline(buffers=[{"uri": "\udc80.bin", "byteLength": 36}])),
    _gltf("buffer is the folder", inline(buffers=[{"uri": ".", "byteLength": 36}])),
    Attack("buffer is a link out of the folder", _symlinked_buffer),
    Attack("folder called a.glb", _directory_called_mesh),
    Attack("mesh is a dangling link", _dangling),
    Attack("mesh is a link to itself", _itself),
    # textures
    written("texture of 100,000 x 100,000", lambda: textured(bomb_png(100_000, 100_000)), called="a.glb"),
    written("texture of 13,000 x 13,000", lambda: textured(bomb_png(13_000, 13_000)), called="a.glb"),
    Attack("texture that is a program for Ghostscript", _eps_texture),
    written("texture of half a PNG", textured(PNG[: len(PNG) // 2]), called="a.glb"),
    written("texture that is text", textured(b"no picture"), called="a.glb"),
    several(
        "texture url of a bomb",
        {
            "a.gltf": json.dumps(
                inline(
                    images=[{"uri": "data:image/png;base64," + base64.b64encode(bomb_png(60_000, 60_000)).decode()}],
                    textures=[{"source": 0}],
                    materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
                    meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
                )
            )
        },
    ),
    # OBJ
    several("obj whose library lies above", {"a.obj": MTL.replace("a.mtl", "../../secret.mtl")}),
    several("obj with a library called by 5,000 letters", {"a.obj": MTL.replace("a.mtl", LONG)}),
    several("obj with a library called NUL", {"a.obj": MTL.replace("a.mtl", "\x01.mtl")}),
    several("texture by absolute name", {"a.obj": MTL, "a.mtl": "newmtl a\nmap_Kd /etc/passwd\n"}),
    several("texture above the folder", {"a.obj": MTL, "a.mtl": "newmtl a\nmap_Kd ../../../etc/hostname\n"}),
    several("library of binary noise", {"a.obj": MTL, "a.mtl": np.random.default_rng(1).bytes(2000)}, HARMLESS),
    written("obj with a line of 100 MB", lambda: b"v " + b"1 " * 50_000_000, called="a.obj"),
    written("obj with 10^300 and 10^-300", "v 1e300 0 0\nv 0 1e-300 0\nv 0 0 1\nf 1 2 3\n", called="a.obj"),
    written("obj with faces of zero and below", TRIANGLE + "f 0 0 0\nf -9 -8 -7\n", called="a.obj"),
    written("obj whose face is 2^63", TRIANGLE + "f 1 2 9223372036854775807\n", called="a.obj"),
    written("obj without area", "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n", called="a.obj"),
    written("obj of escape sequences", "\x1b]0;owned\x07\x1b[2J" + TRIANGLE, called="a.obj"),
    written("obj that is a zip", b"PK\x03\x04" + b"\0" * 100, called="a.obj"),
    written("obj of nested groups of 10^5", "g a\no b\n" * MANY + TRIANGLE + "f 1 2 3\n", HARMLESS, called="a.obj"),
    written("obj with millions of NaN", lambda: b"v nan nan nan\n" * 300_000 + b"f 1 2 3\n", called="a.obj"),
    # PLY, STL
    written("ply of 10^12 faces", ply("3", "1000000000000", SQUARE), called="a.ply"),
    written("ply of 10^5 digits of faces", ply("3", "9" * 5000, SQUARE), called="a.ply"),
    written("ply of -1 faces", ply("3", "-1", SQUARE), called="a.ply"),
    written(
        "ply whose counts come late",
        ("ply\nformat ascii 1.0\n" + "comment a\n" * 7000 + ply("3", "1000000000000", SQUARE)[21:]),
        called="a.ply",
    ),
    written("ply without an end of its header", ply("3", "1", SQUARE).replace("end_header", ""), called="a.ply"),
    written(
        "ply of a list of 255 corners",
        ply("3", "1", SQUARE + "255 0 1 2\n"),
        "the corners that are there",
        called="a.ply",
    ),
    written("ply of corner 2^31", ply("3", "1", SQUARE + "3 0 1 2147483647\n"), called="a.ply"),
    written("ply of NaN", ply("3", "1", "nan nan nan\n1 0 0\n0 1 0\n3 0 1 2\n"), called="a.ply"),
    written("ply of an unknown type", ply("3", "1", SQUARE).replace("float x", "quaternion x"), called="a.ply"),
    written(
        "ply of a texture above",
        ply("3", "1", SQUARE + "3 0 1 2\n").replace(
            "element face", "comment TextureFile ../../../../etc/passwd\nelement face"
        ),
        HARMLESS,
        called="a.ply",
    ),
    written("binary ply cut short", ply("3", "1", "\0\0", "binary_little_endian"), called="a.ply"),
    written("stl of 4 billion faces", b"\0" * 80 + struct.pack("<I", 2**32 - 1) + b"\0" * 50, called="a.stl"),
    written(
        "stl that says solid and is binary",
        b"solid" + b"\0" * 75 + struct.pack("<I", 2**32 - 1) + b"\0" * 50,
        called="a.stl",
    ),
    written("stl of NaN", b"\0" * 80 + struct.pack("<I", 1) + b"\xff" * 50, called="a.stl"),
    written("ascii stl without end", "solid a\n" + "facet normal 0 0 1\n" * 1000, called="a.stl"),
    # names
    written("name of markup", "", called="[bold]a[/nothing].obj"),
    written("name of escape sequences", "", called="\x1b[31mred\x07.obj"),
    written("name that turns its direction", "", called="a\u202egnp.obj"),
    written("name of a formula", TRIANGLE, called="=cmd|' calc'!A0.obj"),
    # a picture of its own kind
    written("usdz that is a zip", b"PK\x03\x04", called="a.usdz"),
    written("blend that is a program", b"BLENDER-v300import os", called="a.blend"),
)
