"""Awkward files that real packages hold, each with the reason for which it must be quarantined."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
POINTS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32).tobytes()


def gltf(**changes: Any) -> dict[str, Any]:
    """One triangle whose buffer is `triangle.bin`."""
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"uri": "triangle.bin", "byteLength": 36}],
        **changes,
    }


def write_awkward(folder: Path) -> dict[str, str]:
    """Write them; file to the reason that its quarantine row must begin with."""
    (folder / "triangle.bin").write_bytes(POINTS)
    (folder.parent / "outside.bin").write_bytes(POINTS)
    texts = {
        "nan.obj": ("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        "infinite.obj": ("v inf 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        "huge.ply": (
            "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
            "element face 350000000000\nproperty list uchar int vertex_indices\nend_header\n",
            "absurd counts",
        ),
        "index.obj": (TRIANGLE + "f 1 2 9\n", "unreadable"),
        "lines.obj": (TRIANGLE + "l 1 2 3\n", "no faces"),
        "empty.obj": ("", "no faces"),
        "nothing.stl": ("", "no faces"),
        "text.glb": ("this is no mesh", "unreadable"),
        "material.obj": ("mtllib absent.mtl\n" + TRIANGLE + "usemtl a\nf 1 2 3\n", "missing materials"),
        "texture.obj": ("mtllib texture.mtl\n" + TRIANGLE + "usemtl a\nf 1 2 3\n", "missing textures"),
        "outside.obj": ("mtllib ../outside.mtl\n" + TRIANGLE + "f 1 2 3\n", "refused"),
        "absolute.obj": ("mtllib absolute.mtl\n" + TRIANGLE + "usemtl a\nf 1 2 3\n", "refused"),
    }
    documents = {
        "buffer.gltf": (gltf(buffers=[{"uri": "absent.bin", "byteLength": 36}]), "missing buffers"),
        "dots.gltf": (gltf(buffers=[{"uri": "../outside.bin", "byteLength": 36}]), "refused"),
        "escaped.gltf": (gltf(buffers=[{"uri": "%2e%2e/outside.bin", "byteLength": 36}]), "refused"),
        "root.gltf": (gltf(buffers=[{"uri": "/etc/passwd", "byteLength": 36}]), "refused"),
        "net.gltf": (gltf(buffers=[{"uri": "http://example.org/a.bin", "byteLength": 36}]), "refused"),
        "link.gltf": (gltf(buffers=[{"uri": "link.bin", "byteLength": 36}]), "refused"),
        "picture.gltf": (gltf(images=[{"uri": "absent.png"}]), "missing textures"),
        "old.gltf": (gltf(asset={"version": "1.0"}), "unsupported"),
        "draco.gltf": (gltf(extensionsRequired=["KHR_draco_mesh_compression"]), "unsupported"),
        "recursive.gltf": (gltf(nodes=[{"children": [1]}, {"children": [0]}]), "unreadable"),
        "itself.gltf": (gltf(nodes=[{"mesh": 0, "children": [0]}]), "unreadable"),
        "accessor.gltf": (gltf(accessors=[{"componentType": 5126, "count": 10**12, "type": "VEC3"}]), "absurd counts"),
        "short.gltf": (gltf(bufferViews=[{"buffer": 0, "byteLength": 12}]), "absurd counts"),
        "list.gltf": ([], "unreadable"),
        "view.gltf": (
            gltf(accessors=[{"bufferView": 7, "componentType": 5126, "count": 3, "type": "VEC3"}]),
            "unreadable",
        ),
    }
    reasons: dict[str, str] = {}
    for name, (text, reason) in texts.items():
        (folder / name).write_text(text)
        reasons[name] = reason
    for name, (document, reason) in documents.items():
        (folder / name).write_text(json.dumps(document))
        reasons[name] = reason
    (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
    (folder / "texture.mtl").write_text("newmtl a\nmap_Kd absent.png\nnewmtl unused\nmap_Kd other.png\n")
    (folder / "absolute.mtl").write_text("newmtl a\nmap_Kd C:/Users/ada/wood.jpg\n")
    (folder / "wide.obj").write_bytes((TRIANGLE + "f 1 2 3\n").encode("utf-16"))
    (folder / "old.glb").write_bytes(struct.pack("<4sIIII", b"glTF", 1, 24, 4, 0) + b"{}  ")
    (folder / "chunk.glb").write_bytes(struct.pack("<4sIIII", b"glTF", 2, 24, 2**31, 0) + b"{}  ")
    (folder / "count.stl").write_bytes(b"\0" * 80 + struct.pack("<I", 4_000_000_000) + b"\0" * 50)
    (folder / "points.ply").write_bytes(trimesh.PointCloud(np.random.rand(5, 3)).export(file_type="ply"))
    squares = trimesh.creation.box()
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (8, 8)))
    squares.visual = trimesh.visual.TextureVisuals(uv=squares.vertices[:, :2], material=material)
    textured = squares.export(file_type="glb")
    (folder / "textured.glb").write_bytes(textured.replace(b"\x89PNG", b"\x89XXX"))
    layers = trimesh.util.concatenate([trimesh.Trimesh(np.eye(3), [[0, 1, 2]], process=False)] * 12_000)
    (folder / "layers.stl").write_bytes(layers.export(file_type="stl"))
    things = [trimesh.creation.box().apply_translation((4 * x, 0, 4 * y)) for x in range(4) for y in range(4)]
    (folder / "scene.ply").write_bytes(trimesh.util.concatenate(things).export(file_type="ply"))
    return reasons | {
        "wide.obj": "unreadable",
        "old.glb": "unsupported",
        "chunk.glb": "absurd counts",
        "count.stl": "absurd counts",
        "points.ply": "no faces",
        "textured.glb": "missing textures",
        "layers.stl": "absurd counts",
        "scene.ply": "a scene rather than an object",
    }
