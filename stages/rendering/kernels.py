"""The warp kernels of `gpu`: what a triangle covers, and what colour a pixel has.

Each mirrors its numba counterpart in `rasterise` and must be changed with it; the tests hold them side by side.
"""
# No `from __future__ import annotations`: warp reads the annotations as they stand.

import warp as wp

wp.set_module_options({"enable_backward": False})  # half the time to compile


@wp.func
def _corner_weights(a: wp.vec3, b: wp.vec3, c: wp.vec3, x: int, y: int) -> wp.vec3d:
    """Of a sample's middle, in the plane of the screen; double, as the numba renderer counts."""
    px, py = wp.float64(x) + wp.float64(0.5), wp.float64(y) + wp.float64(0.5)
    ax, ay = wp.float64(a[0]), wp.float64(a[1])
    area = wp.float64((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]))
    wb = ((px - ax) * wp.float64(c[1] - a[1]) - wp.float64(c[0] - a[0]) * (py - ay)) / area
    wc = (wp.float64(b[0] - a[0]) * (py - ay) - (px - ax) * wp.float64(b[1] - a[1])) / area
    return wp.vec3d(wp.float64(1.0) - wb - wc, wb, wc)


@wp.func
def _inverse_depth(w: wp.vec3d, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.float64:
    return w[0] * wp.float64(a[2]) + w[1] * wp.float64(b[2]) + w[2] * wp.float64(c[2])


@wp.func
def _perspective(w: wp.vec3d, inverse: wp.float64, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> wp.vec3:
    return wp.vec3(
        wp.float32(w[0] * wp.float64(a[2]) / inverse),
        wp.float32(w[1] * wp.float64(b[2]) / inverse),
        wp.float32(w[2] * wp.float64(c[2]) / inverse),
    )


@wp.func
def _wrapped(index: int, size: int) -> int:
    if index < 0:
        return size - 1
    if index >= size:
        return 0
    return index


@wp.func
def _texel_at(texels: wp.array2d(dtype=wp.uint8), index: int) -> wp.vec4:
    return wp.vec4(
        wp.float32(texels[index, 0]),
        wp.float32(texels[index, 1]),
        wp.float32(texels[index, 2]),
        wp.float32(texels[index, 3]),
    )


@wp.func
def _texel(
    uv: wp.array(dtype=wp.vec2),
    levels: wp.array(dtype=wp.vec3i),
    texels: wp.array2d(dtype=wp.uint8),
    level: int,
    face: wp.vec3i,
    w: wp.vec3,
) -> wp.vec4:
    """Bilinear look-up of a repeating texture, RGBA in 0..255."""
    place = w[0] * uv[face[0]] + w[1] * uv[face[1]] + w[2] * uv[face[2]]
    one = levels[level]
    x = (place[0] - wp.floor(place[0])) * wp.float32(one[1]) - 0.5
    y = (place[1] - wp.floor(place[1])) * wp.float32(one[2]) - 0.5
    x0, y0 = int(wp.floor(x)), int(wp.floor(y))
    fx, fy = x - wp.float32(x0), y - wp.float32(y0)
    left, right = _wrapped(x0, one[1]), _wrapped(x0 + 1, one[1])
    low, high = one[0] + _wrapped(y0, one[2]) * one[1], one[0] + _wrapped(y0 + 1, one[2]) * one[1]
    return (
        (1.0 - fx) * (1.0 - fy) * _texel_at(texels, low + left)
        + fx * (1.0 - fy) * _texel_at(texels, low + right)
        + (1.0 - fx) * fy * _texel_at(texels, high + left)
        + fx * fy * _texel_at(texels, high + right)
    )


@wp.func
def _mip_level(
    uv: wp.array(dtype=wp.vec2),
    levels: wp.array(dtype=wp.vec3i),
    pyramid: wp.vec2i,
    face: wp.vec3i,
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
) -> int:
    """The level at which one texel covers about one sample of this triangle."""
    pixels = wp.abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]))
    p, q = uv[face[1]] - uv[face[0]], uv[face[2]] - uv[face[0]]
    area = wp.abs(p[0] * q[1] - q[0] * p[1]) * wp.float32(levels[pyramid[0]][1] * levels[pyramid[0]][2])
    if pyramid[1] == 1 or area <= pixels:
        return pyramid[0]
    return pyramid[0] + wp.min(pyramid[1] - 1, int(0.5 * wp.log2(area / wp.max(pixels, 1.0e-6)) + 0.5))


@wp.kernel
def cover(
    screen: wp.array2d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    material: wp.array(dtype=wp.int32),
    cutoff: wp.array(dtype=wp.float32),
    colours: wp.array(dtype=wp.vec4),
    uv: wp.array(dtype=wp.vec2),
    pyramids: wp.array(dtype=wp.vec2i),
    levels: wp.array(dtype=wp.vec3i),
    texels: wp.array2d(dtype=wp.uint8),
    door: wp.array2d(dtype=wp.float32),
    side: int,
    nearest: wp.array3d(dtype=wp.uint64),
):
    view, f = wp.tid()
    face = faces[f]
    a, b, c = screen[view, face[0]], screen[view, face[1]], screen[view, face[2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    if area == 0.0 or wp.max(wp.max(a[2], b[2]), c[2]) > 1.0e3:  # no area, or behind the eye
        return
    limit = wp.float32(side) + 1.0  # before int: what lies far outside does not fit one
    x0 = wp.max(0, int(wp.ceil(wp.max(wp.min(wp.min(a[0], b[0]), c[0]), -1.0) - 0.5)))
    y0 = wp.max(0, int(wp.ceil(wp.max(wp.min(wp.min(a[1], b[1]), c[1]), -1.0) - 0.5)))
    x1 = wp.min(side - 1, int(wp.floor(wp.min(wp.max(wp.max(a[0], b[0]), c[0]), limit) - 0.5)))
    y1 = wp.min(side - 1, int(wp.floor(wp.min(wp.max(wp.max(a[1], b[1]), c[1]), limit) - 0.5)))
    cut = cutoff[material[f]]
    pyramid = pyramids[material[f]]
    level = _mip_level(uv, levels, pyramid, face, a, b, c)
    first = wp.uint64(0xFFFFFFFF) - wp.uint64(f)  # of equals the first triangle wins
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            w = _corner_weights(a, b, c, x, y)
            if w[0] < wp.float64(0.0) or w[1] < wp.float64(0.0) or w[2] < wp.float64(0.0):
                continue
            inverse = _inverse_depth(w, a, b, c)
            if cut <= 1.0:
                near = _perspective(w, inverse, a, b, c)
                alpha = _texel(uv, levels, texels, level, face, near)[3] / 255.0
                alpha *= near[0] * colours[face[0]][3] + near[1] * colours[face[1]][3] + near[2] * colours[face[2]][3]
                needed = cut
                if cut <= 0.0:
                    needed = door[y % 4, x % 4]
                if alpha < needed:
                    continue
            key = wp.uint64(wp.cast(wp.float32(inverse), wp.uint32))  # positive floats sort as their bits do
            wp.atomic_max(nearest, view, y, x, key * wp.uint64(4294967296) + first)


@wp.kernel
def shade(
    screen: wp.array2d(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    material: wp.array(dtype=wp.int32),
    cutoff: wp.array(dtype=wp.float32),
    colours: wp.array(dtype=wp.vec4),
    uv: wp.array(dtype=wp.vec2),
    pyramids: wp.array(dtype=wp.vec2i),
    levels: wp.array(dtype=wp.vec3i),
    texels: wp.array2d(dtype=wp.uint8),
    eye: wp.array(dtype=wp.vec3),
    vertices: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    light: wp.vec3,
    ambient: float,
    supersampling: int,
    nearest: wp.array3d(dtype=wp.uint64),
    rgba: wp.array4d(dtype=wp.uint8),
    depth: wp.array3d(dtype=wp.float32),
    normal_map: wp.array3d(dtype=wp.vec3),
):
    view, row, column = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    direction = wp.vec3(0.0, 0.0, 0.0)
    distance = float(0.0)  # noqa: UP018 (warp: a literal would be a constant)
    covered = float(0.0)  # noqa: UP018
    for y in range(row * supersampling, (row + 1) * supersampling):
        for x in range(column * supersampling, (column + 1) * supersampling):
            key = nearest[view, y, x]
            if key == wp.uint64(0):
                continue
            f = int(wp.uint64(0xFFFFFFFF) - (key & wp.uint64(0xFFFFFFFF)))
            face = faces[f]
            a, b, c = screen[view, face[0]], screen[view, face[1]], screen[view, face[2]]
            inner = _corner_weights(a, b, c, x, y)
            w = _perspective(inner, _inverse_depth(inner, a, b, c), a, b, c)
            p, q, r = vertices[face[0]], vertices[face[1]], vertices[face[2]]
            normal = w[0] * normals[face[0]] + w[1] * normals[face[1]] + w[2] * normals[face[2]]
            if wp.length(normal) < 1.0e-6:  # no usable vertex normals, or flat shading: the face's own
                normal = wp.cross(q - p, r - p)
            normal = normal / wp.max(wp.length(normal), 1.0e-12)
            if wp.dot(normal, eye[view] - (w[0] * p + w[1] * q + w[2] * r)) < 0.0:
                normal = -normal
            lit = ambient + (1.0 - ambient) * (0.5 + 0.5 * wp.dot(normal, light))
            level = _mip_level(uv, levels, pyramids[material[f]], face, a, b, c)
            texel = _texel(uv, levels, texels, level, face, w)
            tint = w[0] * colours[face[0]] + w[1] * colours[face[1]] + w[2] * colours[face[2]]
            total += lit * wp.vec3(tint[0] * texel[0], tint[1] * texel[1], tint[2] * texel[2])
            direction += normal
            distance += w[0] / a[2] + w[1] / b[2] + w[2] / c[2]
            covered += 1.0
    if covered == 0.0:
        return
    for k in range(3):
        rgba[view, row, column, k] = wp.uint8(wp.min(255.0, total[k] / covered + 0.5))
    samples = wp.float32(supersampling * supersampling)
    rgba[view, row, column, 3] = wp.uint8(255.0 * covered / samples + 0.5)
    normal_map[view, row, column] = direction / covered
    depth[view, row, column] = distance / covered
