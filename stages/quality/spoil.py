"""The labelled clips that ship: clean orbits, and orbits spoiled on purpose, each in a way that generated clips fail.

    make_labels(objects, meshes, output, config, *, seed, report)  -> output/{labels.parquet, clips.tar}
    trial_clips(rows, meshes, config, *, seed)                      -> clean and spoiled clips to test a judge with

Objects are those of the training split. The verdict on a clip that was spoiled on purpose is known; the clean orbits
were looked through by the maker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import ndimage

from models.camera import Camera
from stages.base.views import training_rows
from stages.quality.bending import bent
from stages.quality.config import LabelsConfig
from stages.quality.judged import BAD, GOOD, SCHEMA
from stages.rendering.mesh import Mesh, MeshError, load_mesh
from stages.rendering.rasterise import render
from stages.rendering.variants import colour_matrix, draw_scale, recoloured
from stages.seeds import numpy_generator, sample_seed
from stages.shards import Sample, composite, write_shard

Views = Float[np.ndarray, "v 3 h w"]
"""RGB on white in 0..1, once around."""
Generator = np.random.Generator


def frozen(views: Views, rng: Generator) -> Views:
    """every view repeats the first"""
    return np.repeat(views[:1], len(views), 0)


def shuffled(views: Views, rng: Generator) -> Views:
    """the views come in no order"""
    count = len(views)
    while True:
        order = np.concatenate(([0], 1 + rng.permutation(count - 1)))
        steps = np.diff(order) % count
        if ((steps != 1) & (steps != count - 1)).sum() >= count // 2:  # neither an orbit nor one backwards
            return views[order]


def pan(views: Views, rng: Generator) -> Views:
    """the object slides through the picture instead of turning"""
    size, count = views.shape[-1], len(views)
    reach = rng.choice((-1, 1)) * rng.uniform(0.2, 0.35) * size
    rise = rng.uniform(-0.1, 0.1) * size
    return np.stack([_shifted(views[0], rise * k / count, reach * k / count) for k in range(count)])


def blurred_back(views: Views, rng: Generator) -> Views:
    """sharp in front, a blur from behind"""
    sigma = rng.uniform(0.06, 0.1) * views.shape[-1] * _behind(len(views))
    return np.stack([ndimage.gaussian_filter(v, (0, s, s), mode="nearest") for v, s in zip(views, sigma, strict=True)])


def cropped(views: Views, rng: Generator) -> Views:
    """the object reaches out of the picture"""
    zoom = rng.uniform(1.7, 2.2)
    offset = rng.uniform(-0.2, 0.2, 2) * views.shape[-1]
    return np.stack([_shifted(_zoomed(view, zoom), *offset) for view in views])


def vanished(views: Views, rng: Generator) -> Views:
    """the object is gone or fading in some views"""
    count = len(views)
    first, length = rng.integers(1, count // 2 + 1), rng.integers(2, count // 2 + 1)
    gone = np.zeros(count)
    gone[first : first + length] = rng.uniform(0.85, 1)
    return views + gone[:, None, None, None] * (1 - views)


def noisy(views: Views, rng: Generator) -> Views:
    """grain over every view but the first"""
    strength = rng.uniform(0.12, 0.25) * np.minimum(1, np.arange(len(views)))
    return views + strength[:, None, None, None] * rng.normal(size=views.shape)


def colour_drift(views: Views, rng: Generator) -> Views:
    """the colours turn into others along the way"""
    angle = rng.choice((-1, 1)) * rng.uniform(1.5, 3.0)
    fade = rng.uniform(0.25, 0.45)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    drifted = []
    for view, part in zip(views, np.linspace(0, 1, len(views)), strict=True):
        turn = np.outer(axis, axis) * (1 - np.cos(part * angle)) + np.cos(part * angle) * np.eye(3)
        turn = (turn + np.sin(part * angle) * cross) * (1 - part * fade)
        inside = 1 - _whiteness(view)
        drifted.append(inside * np.einsum("ij,jhw->ihw", turn, view) + (1 - inside) * view)
    return np.stack(drifted)


def two_objects(views: Views, rng: Generator) -> Views:
    """a second object stands beside the first"""
    shift = 0.24 * views.shape[-1]
    other = np.roll(views, len(views) // 2 + rng.integers(0, 2), 0)
    side = rng.choice((-1, 1))
    left = np.stack([_shifted(_zoomed(view, 0.6), 0, side * shift) for view in views])
    right = np.stack([_shifted(_zoomed(view, 0.6), 0, -side * shift) for view in other])
    return np.minimum(left, right)


def card(views: Views, rng: Generator) -> Views:
    """a flat picture turns, mirrored from behind"""
    count, size = len(views), views.shape[-1]
    start = rng.uniform(-0.3, 0.3)
    turned = []
    for k in range(count):
        width = np.cos(2 * np.pi * k / count + start * (k > 0))
        width = np.sign(width) * max(abs(width), 0.08)
        matrix = np.array([1, 1, 1 / width])
        centre = (size - 1) / 2
        offset: Any = np.array([0, 0, centre - centre / width])
        turned.append(ndimage.affine_transform(views[0], matrix, offset, order=1, cval=1.0))
    return np.stack(turned)


def smeared(views: Views, rng: Generator) -> Views:
    """each view is a mixture of several"""
    reach = 2
    weights = rng.uniform(0.5, 1, 2 * reach + 1)
    weights /= weights.sum()
    mixed = sum(w * np.roll(views, k - reach, 0) for k, w in enumerate(weights))
    return np.concatenate((views[:1], np.asarray(mixed)[1:]))


def melted(views: Views, rng: Generator) -> Views:
    """shapes flow: every view but the first is bent by itself"""
    return np.stack([views[0], *(bent(view, (0.05, 0.08), rng) for view in views[1:])])


def jittered(views: Views, rng: Generator) -> Views:
    """place and size jump from view to view"""
    size = views.shape[-1]
    jumps = rng.uniform(-0.14, 0.14, (len(views), 2)) * size
    zooms = rng.uniform(0.6, 1.15, len(views))
    return np.stack([_shifted(_zoomed(v, z), *j) for v, z, j in zip(views, zooms, jumps, strict=True)])


def half_turn(views: Views, rng: Generator) -> Views:
    """the camera sways a little to and fro instead of going around"""
    count = len(views)
    sway = np.rint(np.sin(2 * np.pi * np.arange(count) / count)).astype(int)
    return views[sway]


SPOILS: Mapping[str, Callable[[Views, Generator], Views]] = {
    spoil.__name__: spoil
    for spoil in (
        frozen,
        shuffled,
        pan,
        blurred_back,
        cropped,
        vanished,
        noisy,
        colour_drift,
        two_objects,
        card,
        smeared,
        melted,
        jittered,
        half_turn,
    )
}


def flipped(views: Views, rng: Generator) -> Views:
    """every second view has other colours"""
    order = rng.choice(((1, 2, 0), (2, 0, 1)))
    turned = views.copy()
    inside = 1 - np.stack([_whiteness(view) for view in views[1::2]])
    # negative and with the channels in another order: a grey object shows the one, a bright one the other
    turned[1::2] = inside * (0.9 - 0.8 * views[1::2][:, order]) + (1 - inside) * views[1::2]
    return turned


def swapped(views: Views, other: Views, rng: Generator) -> Views:
    """half of the views show another object"""
    first, count = rng.integers(1, len(views) // 2 + 1), len(views) // 2
    return np.concatenate((views[:first], other[first : first + count], views[first + count :]))


UNSEEN = {"flipped": flipped, "swapped": swapped}
"""Spoils that no shipped label shows: does a judge see what it was not told of?"""


def make_labels(
    objects: pl.DataFrame,
    meshes: Path,
    output: Path,
    config: LabelsConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Render orbits of training objects, keep `config.good`, spoil `config.spoiled` of each kind, write both.

    `meshes` is the folder that `file` starts from. Half of the good clips are slightly soft and grainy, as a
    generated clip is at best. A spoil that hardly shows on an object (a shuffled ball) goes to another object.
    """
    if not len(training := training_rows(objects)):
        raise ValueError(f"no training object among {len(objects)}; labels need some")
    plan = [(GOOD, k) for k in range(config.good)]
    plan += [(kind, k) for kind in SPOILS for k in range(config.spoiled)]
    orbits = _orbits(training, meshes, config, seed)
    samples, rows = [], []
    for number, (kind, k) in enumerate(plan):
        while True:
            sample = next(orbits)
            rng = numpy_generator(seed, "spoil", sample.id)
            clean = composite(sample.views)
            if kind == GOOD:
                views, who, reason = clean, "maker", "one object, whole, seen once around from one height"
                if k % 2:
                    views, reason = _softened(clean, rng), f"{reason}; slightly soft"
                break
            views, who, reason = SPOILS[kind](clean, rng), f"spoiled:{kind}", SPOILS[kind].__doc__ or kind
            if _difference(views, clean) >= config.visible:
                break
        samples.append(replace(sample, views=opaque(views)))
        rows.append(
            {
                "clip": sample.id,
                "tar": "clips.tar",
                "verdict": GOOD if kind == GOOD else BAD,
                "reason": reason,
                "who": who,
                "date": config.date,
                "source": "render of a training object, deformed and recoloured",
                **{key: sample.meta[key] for key in ("object", "creator", "licence")},
            }
        )
        report({"step": number + 1, "of": len(plan), "message": f"{sample.id}: {who}"})
    output.mkdir(parents=True, exist_ok=True)
    write_shard(output / "clips.tar", samples)
    pl.DataFrame(rows, schema=SCHEMA).sort("clip").write_parquet(output / "labels.parquet")


def trial_clips(
    objects: pl.DataFrame, meshes: Path, config: LabelsConfig, *, seed: int, clean: int
) -> Iterator[tuple[str, Sample]]:
    """Clean orbits ("good"), `clean` of each object, and one clip of each kind of spoil, told or UNSEEN, of each.

    Made as labels are, for a judge to be tested with: `objects` are then such as no label shows.
    """
    orbits = _orbits(objects, meshes, config, seed)
    previous = composite(next(orbits).views)
    for k in range(clean * len(objects)):
        sample = next(orbits)
        views = composite(sample.views)
        rng = numpy_generator(seed, "spoil", sample.id)
        yield GOOD, replace(sample, views=opaque(_softened(views, rng) if k % 2 else views))
    for kind in (*SPOILS, *UNSEEN):
        for _ in range(len(objects)):
            sample = next(orbits)
            rng = numpy_generator(seed, "spoil", sample.id)
            views = composite(sample.views)
            if kind == swapped.__name__:
                spoiled = swapped(views, previous, rng)
            else:
                spoiled = (SPOILS.get(kind) or flipped)(views, rng)
            previous = views
            if _difference(spoiled, views) >= config.visible:
                yield kind, replace(sample, views=opaque(spoiled))


def opaque(views: Views) -> np.ndarray:
    """RGB in 0..1 as views of a shard that cover everything, the form in which generated clips come."""
    rgb = np.rint(np.clip(views, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.concatenate((rgb, np.full((*rgb.shape[:-1], 1), 255, np.uint8)), -1)


def _orbits(objects: pl.DataFrame, meshes: Path, config: LabelsConfig, seed: int) -> Iterator[Sample]:
    """Endless orbits, one object after another, each deformed and recoloured anew."""
    rendering = config.rendering
    loaded: list[tuple[dict[str, Any], Mesh]] = []
    for row in objects.sort("id").to_dicts():
        try:
            loaded.append((row, load_mesh(meshes / row["file"], rendering)))
        except MeshError:
            continue
    if not loaded:
        raise ValueError(f"no mesh of {len(objects)} below {meshes} can be rendered; clips need some")
    turn = 0
    while True:
        for row, mesh in loaded:
            rng = numpy_generator(seed, "orbit", row["id"], turn)
            scale = draw_scale(rng, config.stretch)
            elevation, azimuth = rng.uniform(*rendering.elevation), rng.uniform(0, 360)
            cameras = Camera.orbit(rendering.views, elevation, rendering.radius, rendering.focal, azimuth)
            views = render(mesh.stretched(scale, rendering.fit), cameras, rendering).rgba
            meta = {
                "cameras": [[round(float(x), 6) for x in numbers] for numbers in cameras.numbers()],
                "elevation": round(float(elevation), 4),
                "radius": rendering.radius,
                "seed": sample_seed(seed, "orbit", row["id"], turn),
                "parents": [row["md5"]],
                "object": row["id"],
                **{key: row[key] for key in ("caption", "licence", "creator", "split")},
            }
            yield Sample(f"{row['id']}-{turn:02d}", recoloured(views, colour_matrix(rng, 1.0)), meta)
        turn += 1


def _softened(views: Views, rng: Generator) -> Views:
    sigma = rng.uniform(0.4, 0.8)
    soft = ndimage.gaussian_filter(views, (0, 0, sigma, sigma), mode="nearest")
    return soft + rng.uniform(0.0, 0.02) * rng.normal(size=views.shape)


def _difference(a: Views, b: Views) -> float:
    """Mean change where either view is not white."""
    where = np.minimum(a, b).min(1) < 0.9
    return float((np.abs(a - b).mean(1) * where).sum() / max(where.sum(), 1))


def _behind(count: int) -> Float[np.ndarray, " v"]:
    """0 in front, 1 on the far side."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)


def _whiteness(view: Float[np.ndarray, "3 h w"]) -> Float[np.ndarray, "1 h w"]:
    return np.clip((view.min(0, keepdims=True) - 0.85) / 0.15, 0, 1)


def _shifted(view: Float[np.ndarray, "3 h w"], down: float, right: float) -> Float[np.ndarray, "3 h w"]:
    return ndimage.shift(view, (0, down, right), order=1, cval=1.0)


def _zoomed(view: Float[np.ndarray, "3 h w"], factor: float) -> Float[np.ndarray, "3 h w"]:
    centre = (np.array(view.shape[1:]) - 1) / 2
    offset: Any = np.array([0, *(centre - centre / factor)])
    return ndimage.affine_transform(view, np.array([1, 1 / factor, 1 / factor]), offset, order=1, cval=1.0)
