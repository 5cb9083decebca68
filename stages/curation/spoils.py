"""Views spoiled on purpose, each in a way that generated views fail: what a curation has to find.

    spoiled(pool, rng, share=0.5) -> the pool with that share of its views spoiled, and which are, by kind

The list was written down before any score was tried on it. A spoil that hardly shows on an object (a mirrored ball) is
none: another kind takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage

from stages.candidates.pool import Pool
from stages.curation.placing import angles_between, shared
from stages.quality.bending import bent
from stages.rendering.variants import colour_matrix

VISIBLE = 0.04
"""Least mean change, 0..1, inside the object for a spoil to count, as for the labelled clips that ship."""
FAR = 60.0
"""Degrees between the cameras from which on a view is of the wrong place."""
BACKGROUND = 0.92
"""Brightness of its darkest channel from which on a pixel may be background."""

Generator = np.random.Generator
View = Float[np.ndarray, "3 s s"]


@dataclass(frozen=True)
class Place:
    """A view that is to be spoiled, and what it may be confused with."""

    view: View
    front: View | None
    """The front, where its camera is at least FAR degrees off."""
    far: Sequence[View]
    """All views of the pool from cameras at least FAR degrees off."""
    other: View | None
    """A view of another object from the same or the nearest camera."""


def another_object(place: Place, rng: Generator) -> View | None:
    """the same camera, another object"""
    return place.other


def wrong_azimuth(place: Place, rng: Generator) -> View | None:
    """the object seen from another side, at least 60 degrees off"""
    return place.far[int(rng.integers(len(place.far)))] if place.far else None


def front_again(place: Place, rng: Generator) -> View | None:
    """the front once more where another side should be seen (a head with two faces)"""
    return place.front


def mirrored(place: Place, rng: Generator) -> View | None:
    """left and right are exchanged"""
    return place.view[:, :, ::-1]


def melted(place: Place, rng: Generator) -> View | None:
    """the shape flows: bent smoothly"""
    return bent(place.view, (0.05, 0.08), rng)


def parts_missing(place: Place, rng: Generator) -> View | None:
    """a quarter to a half of the object is gone, on one side of a line"""
    rows, columns = np.nonzero(_inside(place.view))
    if not len(rows):
        return None
    angle = rng.uniform(0, 2 * np.pi)
    across = np.cos(angle) * columns + np.sin(angle) * rows
    cut = np.quantile(across, 1 - rng.uniform(0.25, 0.5))
    grid = np.mgrid[: place.view.shape[1], : place.view.shape[2]]
    return np.where(np.cos(angle) * grid[1] + np.sin(angle) * grid[0] >= cut, 1.0, place.view)


def ghost(place: Place, rng: Generator) -> View | None:
    """two views in one: itself and one from far off, mixed half and half"""
    if not place.far:
        return None
    part = rng.uniform(0.4, 0.6)
    return (1 - part) * place.view + part * place.far[int(rng.integers(len(place.far)))]


def blurred(place: Place, rng: Generator) -> View | None:
    """out of focus"""
    sigma = rng.uniform(0.06, 0.1) * place.view.shape[-1]
    return ndimage.gaussian_filter(place.view, (0, sigma, sigma), mode="nearest")


def wrong_colours(place: Place, rng: Generator) -> View | None:
    """the shape is right, its colours are not"""
    turned = np.einsum("ij,jhw->ihw", colour_matrix(rng, 1.0), place.view).clip(0, 1)
    return np.where(_inside(place.view), turned, place.view)


def blobs(place: Place, rng: Generator) -> View | None:
    """coloured blobs over the object and beside it"""
    size = place.view.shape[-1]
    field = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, size / 12, size / 12), mode="nearest")
    field /= field.std((1, 2), keepdims=True)
    over = 1 / (1 + np.exp(-6 * (field[3] - rng.uniform(0.3, 0.8))))
    return (1 - over) * place.view + over * (0.5 + 0.25 * field[:3]).clip(0, 1)


def grain(place: Place, rng: Generator) -> View | None:
    """noise that was not taken away"""
    return place.view + rng.uniform(0.15, 0.3) * rng.normal(size=place.view.shape)


def misplaced(place: Place, rng: Generator) -> View | None:
    """the object is of another size and elsewhere in the picture"""
    size = place.view.shape[-1]
    zoom = rng.choice((rng.uniform(0.6, 0.8), rng.uniform(1.2, 1.4)))
    jump = rng.uniform(0.06, 0.14, 2) * rng.choice((-1, 1), 2) * size
    centre = (size - 1) / 2
    offset = centre - (centre + jump) / zoom
    shifts = np.array([0.0, *offset])
    return ndimage.affine_transform(place.view, np.array([1, 1 / zoom, 1 / zoom]), shifts, order=1, cval=1.0)  # pyright: ignore[reportArgumentType]


SPOILS: Mapping[str, Callable[[Place, Generator], View | None]] = {
    spoil.__name__: spoil
    for spoil in (
        another_object,
        wrong_azimuth,
        front_again,
        mirrored,
        melted,
        parts_missing,
        ghost,
        blurred,
        wrong_colours,
        blobs,
        grain,
        misplaced,
    )
}
"""Each gives the spoiled view, or None where it has nothing to spoil with."""


def spoiled(
    pool: Pool,
    rng: Generator,
    share: float = 0.5,
    *,
    others: Sequence[Pool] = (),
    kinds: Sequence[str] = tuple(SPOILS),
) -> tuple[Pool, dict[int, str]]:
    """The pool with `share` of its views spoiled, each by a kind drawn at random; place -> kind.

    What stands at the front's camera stays: it is the picture that was asked for. The back may be spoiled. `others` are
    pools of other objects that a view may be taken from; without them no view shows another object.
    """
    views = pool.views.numpy()
    free = np.flatnonzero(~shared(pool).numpy())
    chosen = sorted(rng.permutation(free)[: round(share * len(views))].tolist())
    angles = angles_between(pool.cameras).numpy()
    made, which = views.copy(), {}
    for number in chosen:
        other = None
        if others:
            it = others[int(rng.integers(len(others)))]
            away = (it.cameras.pose[:, :3, 3] - pool.cameras.pose[number, :3, 3]).norm(dim=1)
            other = it.views[int(away.argmin())].numpy()
        far = [views[k] for k in np.flatnonzero(angles[number] >= FAR)]
        front = views[pool.front] if angles[number, pool.front] >= FAR else None
        place = Place(views[number], front, far, other)
        for kind in rng.permutation(list(kinds)).tolist():
            view = SPOILS[kind](place, rng)
            if view is not None and _change(view, views[number]) >= VISIBLE:
                made[number], which[number] = view.clip(0, 1), kind
                break
    return replace(pool, views=torch.from_numpy(made)), which


def _inside(view: View) -> np.ndarray:
    return view.min(0) < BACKGROUND


def _change(a: View, b: View) -> float:
    """Mean absolute difference where either view shows something."""
    where = _inside(np.minimum(a, b))
    return float((np.abs(a - b).mean(0) * where).sum() / max(where.sum(), 1))
