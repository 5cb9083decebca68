"""A texture for a mesh, without a graphics library: xatlas unwraps, numpy fills the texels.

The atlas is filled triangle by triangle: each texel whose middle lies in a triangle, or within a texel's distance of it
(bilinear look-ups read those as well), takes the colour of its point on the surface. What no triangle reaches takes the
colour of the nearest texel that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import trimesh
import xatlas
from jaxtyping import Float, Float32, Int64
from PIL import Image
from scipy import ndimage
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

CHUNK = 1 << 17  # texels looked at, or points asked, at once; bounds memory whatever the texture's size
REACH = 1.0  # texels beyond a triangle that are coloured with it
PADDING = 3  # texels between charts

Colours = Callable[[Float[np.ndarray, "p 3"]], Float[np.ndarray, "p 3"]]
"""Colours, 0..1, of points."""


def textured(mesh: trimesh.Trimesh, colours: Colours, size: int) -> trimesh.Trimesh:
    """The mesh with a texture of about `size` pixels a side, whose texels ask `colours` at their place on the surface.

    Vertices are doubled where the atlas is cut; faces keep their order.
    """
    vertices, faces, uv, shape = unwrap(mesh, size)
    pixels = bake(vertices, faces, uv, colours, shape)
    material = PBRMaterial(
        baseColorTexture=Image.fromarray(pixels),
        baseColorFactor=(255, 255, 255, 255),
        metallicFactor=0.0,
        roughnessFactor=1.0,
        name="texture",
    )
    made = trimesh.Trimesh(
        vertices, faces, visual=TextureVisuals(uv=uv, material=material), process=False, metadata=dict(mesh.metadata)
    )
    return made


def unwrap(
    mesh: trimesh.Trimesh, size: int
) -> tuple[Float[np.ndarray, "w 3"], Int64[np.ndarray, "f 3"], Float32[np.ndarray, "w 2"], tuple[int, int]]:
    """Vertices, faces and places in an atlas of (height, width) texels; v grows upwards, as trimesh has it."""
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear, packing.blockAlign = size, PADDING, True, True
    atlas = xatlas.Atlas()
    atlas.add_mesh(np.asarray(mesh.vertices, dtype=np.float32), np.asarray(mesh.faces, dtype=np.uint32))
    atlas.generate(charts, packing)
    origin, faces, uv = atlas[0]
    return np.asarray(mesh.vertices)[origin], faces.astype(np.int64), uv, (atlas.height, atlas.width)


def bake(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int64[np.ndarray, "f 3"],
    uv: Float[np.ndarray, "v 2"],
    colours: Colours,
    shape: tuple[int, int],
) -> np.ndarray:
    """Pixels [height, width, 3] as bytes, top row first."""
    owner, weights = rasterise(faces, uv, shape)
    filled = owner >= 0
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    places = np.flatnonzero(filled)
    for part in np.split(places, range(CHUNK, len(places), CHUNK)):
        corners = vertices[faces[owner.flat[part]]]  # [p, corner, xyz]
        points = np.einsum("pc,pcx->px", weights.reshape(-1, 3)[part], corners)
        pixels.reshape(-1, 3)[part] = np.rint(colours(points) * 255)
    if not filled.any():
        return pixels
    nearest = ndimage.distance_transform_edt(~filled, return_distances=False, return_indices=True)
    return pixels[tuple(np.asarray(nearest))]


def rasterise(
    faces: Int64[np.ndarray, "f 3"], uv: Float[np.ndarray, "v 2"], shape: tuple[int, int]
) -> tuple[Int64[np.ndarray, "h w"], Float32[np.ndarray, "h w 3"]]:
    """The triangle of each texel, -1 where there is none, and the place in it as shares of its corners.

    A texel that several triangles reach belongs to the one that it lies deepest in. Shares of a texel beyond the edge
    of its triangle are those of a place on that edge.
    """
    height, width = shape
    places = np.stack((uv[:, 0] * width, (1 - uv[:, 1]) * height), -1).astype(np.float64) - 0.5  # in texel middles
    corners = places[faces]
    low = np.clip(np.ceil(corners.min(1) - REACH), 0, (width - 1, height - 1)).astype(np.int64)
    high = np.clip(np.floor(corners.max(1) + REACH), 0, (width - 1, height - 1)).astype(np.int64)
    owner = np.full(height * width, -1, dtype=np.int64)
    depth = np.full(height * width, -np.inf)
    shares = np.zeros((height * width, 3), dtype=np.float32)
    for some in _batches((high - low + 1).clip(min=0).prod(1)):
        spans = (high - low + 1)[some]
        which = np.repeat(some, spans.prod(1))
        start = np.repeat(np.cumsum(spans.prod(1)) - spans.prod(1), spans.prod(1))
        within = np.arange(len(which)) - start
        columns = np.repeat(spans[:, 0], spans.prod(1))
        texel = np.stack((within % columns, within // columns), -1) + low[which]
        inside, own = _shares(corners[which], texel)
        index = texel[:, 1] * width + texel[:, 0]
        better = (inside >= -REACH) & (inside > depth[index])
        order = np.argsort(inside[better], kind="stable")  # of those for the same texel, the last is kept
        chosen = index[better][order]
        owner[chosen], depth[chosen] = which[better][order], inside[better][order]
        shares[chosen] = own[better][order]
    return owner.reshape(shape), shares.reshape(*shape, 3)


def _shares(
    corners: Float[np.ndarray, "n 3 2"], texel: Int64[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """How deep places lie in triangles, in texels, below 0 outside; and their shares of the corners, made valid."""
    following, last = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    side = last - following  # opposite each corner
    apart = texel[:, None] - following
    twice = side[..., 0] * apart[..., 1] - side[..., 1] * apart[..., 0]
    area = twice.sum(1)
    length = np.linalg.norm(side, axis=-1)
    sign = np.where(area < 0, -1.0, 1.0)
    deep = (sign[:, None] * twice / np.maximum(length, 1e-12)).min(1)
    flat = np.abs(area) < 1e-9
    own = np.clip(twice / np.where(flat, 1.0, area)[:, None], 0, None)
    own[flat] = 1 / 3
    return deep, own / own.sum(1, keepdims=True)


def _batches(counts: Int64[np.ndarray, " f"]) -> Iterator[Int64[np.ndarray, " some"]]:
    """Triangles in groups of at most CHUNK texels, larger ones alone."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
        yield np.arange(first, last)
        first = last
