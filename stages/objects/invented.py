"""Invented objects: furniture-like and free shapes from a seed, where there are too few meshes to learn shape from.

Sets of primitives alone carry reconstruction models far (LRM-Zero, arXiv 2406.09371); ours are put together the way
things that stand in rooms are, so that a model learns what is symmetric, what stands on legs and what is thin.
They are nobody's work but this project's: CC0-1.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh.visual import ColorVisuals

Point = tuple[float, float, float]

INVENTED = "invented"
"""How the ids of invented objects start."""
CREATOR, LICENCE = "Orbitforge", "CC0-1.0"
"""A creator of the training split, as `stages.objects.splits` has it."""


KINDS = {"vessel": "vase", "panel": "picture frame", "heap": "sculpture"}
"""What people call some of the kinds below."""


@dataclass
class Assembly:
    """Parts of one object in its own units, z up, with a palette to colour them from."""

    rng: np.random.Generator
    parts: list[trimesh.Trimesh] = field(default_factory=list)
    kind: str = "object"
    details: list[str] = field(default_factory=list)
    """what there is to say of it, in the words of the prompts' vocabulary"""

    def __post_init__(self) -> None:
        base = self.rng.uniform(0.05, 0.95, 3)
        tints = base + self.rng.normal(0, 0.08, (2, 3))
        self.palette = np.clip(np.vstack((base, tints, self.rng.uniform(0, 1, (2, 3)))), 0, 1)

    def add(
        self, part: trimesh.Trimesh, at: Point, colour: int | None = None, turn: Float[np.ndarray, "3 3"] | None = None
    ) -> None:
        """Put a part, turned about its own origin, at a place."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.eye(3) if turn is None else turn
        matrix[:3, 3] = at
        part.apply_transform(matrix)
        shade = self.palette[self.rng.integers(len(self.palette)) if colour is None else colour]
        rgba = np.append(shade * 255, 255).astype(np.uint8)
        part.visual = ColorVisuals(part, vertex_colors=np.tile(rgba, (len(part.vertices), 1)))
        self.parts.append(part)

    def box(
        self, size: Point, at: Point, colour: int | None = None, turn: Float[np.ndarray, "3 3"] | None = None
    ) -> None:
        self.add(trimesh.creation.box(size), at, colour, turn)

    def rod(self, start: Point, end: Point, thickness: float, colour: int | None = None, *, round_: bool) -> None:
        """A round or square rod between two points."""
        a, b = np.array(start), np.array(end)
        length = float(np.linalg.norm(b - a))
        part = (
            trimesh.creation.cylinder(thickness / 2, length, sections=10)
            if round_
            else trimesh.creation.box((thickness, thickness, length))
        )
        matrix = np.asarray(trimesh.geometry.align_vectors((0, 0, 1), (b - a) / length))
        if not round_ and abs(b - a)[2] > 0.9 * length:  # square legs stand square
            matrix = np.eye(4)
        self.add(part, tuple((a + b) / 2), colour, matrix[:3, :3])

    def lathe(self, profile: Float[np.ndarray, "p 2"], at: Point, colour: int | None = None) -> None:
        """A body of revolution of (radius, height) points."""
        self.add(trimesh.creation.revolve(profile, sections=16), at, colour)


@dataclass(frozen=True)
class Invention:
    """A mesh, what it is ("chair") and what it has ("round legs")."""

    mesh: trimesh.Trimesh
    kind: str
    details: tuple[str, ...]


def invent(seed: np.random.Generator) -> trimesh.Trimesh:
    """One object with vertex colours, y up as mesh files are, of a kind drawn by the generator."""
    return invention(seed).mesh


def invention(seed: np.random.Generator) -> Invention:
    """The same object with words for it."""
    kinds: tuple[Callable[[Assembly], None], ...] = (
        table,
        chair,
        chair,
        sofa,
        cabinet,
        shelf,
        lamp,
        vessel,
        plant,
        bed,
        panel,
        appliance,
        heap,
        heap,
    )
    assembly = Assembly(seed)
    kind = kinds[seed.integers(len(kinds))]
    assembly.kind = KINDS.get(kind.__name__, kind.__name__)
    kind(assembly)
    mesh = cast(trimesh.Trimesh, trimesh.util.concatenate(assembly.parts))
    mesh.vertices = mesh.vertices[:, [0, 2, 1]] * (1, 1, -1)
    return Invention(mesh, assembly.kind, tuple(dict.fromkeys(assembly.details)))


def table(a: Assembly) -> None:
    u = a.rng.uniform
    width, depth, height, thick = u(0.6, 2.0), u(0.5, 1.0), u(0.3, 1.0), u(0.02, 0.12)
    if a.rng.random() < 0.25:
        a.add(trimesh.creation.cylinder(width / 2, thick, sections=24), (0, 0, height), 0)
        a.details.append("a round top")
        depth = width
        spread = 0.6
    else:
        a.box((width, depth, thick), (0, 0, height), 0)
        spread = u(0.75, 0.97)
    if a.rng.random() < 0.2:  # one column on a foot
        a.details.append("one column")
        a.rod((0, 0, 0), (0, 0, height), u(0.06, 0.2), 1, round_=True)
        a.add(trimesh.creation.cylinder(u(0.2, 0.35), 0.05, sections=20), (0, 0, 0.02), 1)
        return
    _legs(a, width * spread, depth * spread, height - thick / 2)
    if a.rng.random() < 0.4:
        a.box((width * spread, depth * spread, u(0.05, 0.25)), (0, 0, height - 0.12), 1)
    if a.rng.random() < 0.25:
        a.details.append("a lower shelf")
        a.box((width * spread, depth * spread, 0.04), (0, 0, height * u(0.15, 0.5)), None)


def chair(a: Assembly) -> None:
    u = a.rng.uniform
    width, depth, seat, back, thick = u(0.4, 0.7), u(0.4, 0.7), u(0.35, 0.55), u(0.0, 0.75), u(0.03, 0.14)
    a.box((width, depth, thick), (0, 0, seat), 0)
    _legs(a, width * 0.9, depth * 0.9, seat)
    lean = u(0, 0.15)
    rear = -depth / 2 + 0.03
    style = a.rng.random()
    if back < 0.12:
        a.kind = "stool"
        return
    a.details.append("a solid back" if style < 0.5 else "a slatted back")
    if style < 0.5:
        panel = (width * u(0.7, 1), u(0.02, 0.1), back)
        a.box(panel, (0, rear - lean / 2, seat + back / 2), None, _about_x(lean / back))
    else:
        posts = (
            (-width / 2 + 0.03, width / 2 - 0.03)
            if style < 0.8
            else tuple(np.linspace(-width / 2 + 0.03, width / 2 - 0.03, 5))
        )
        for x in posts:
            a.rod((x, rear, seat), (x, rear - lean, seat + back), 0.04, 1, round_=bool(style < 0.7))
        for height in np.linspace(0.45, 1, a.rng.integers(1, 4)):
            a.box((width, 0.04, u(0.05, 0.2)), (0, rear - lean * height, seat + back * height), 1)
    if a.rng.random() < 0.35:
        a.details.append("armrests")
        for x in (-width / 2, width / 2):
            a.box((0.05, depth * 0.9, 0.05), (x, 0, seat + 0.22), 1)
            a.rod((x, depth * 0.4, seat), (x, depth * 0.4, seat + 0.22), 0.04, 1, round_=False)


def sofa(a: Assembly) -> None:
    u = a.rng.uniform
    width, depth, seat, back, arm = u(0.8, 2.2), u(0.7, 1.0), u(0.3, 0.45), u(0.3, 0.5), u(0.1, 0.25)
    a.box((width, depth, seat), (0, 0, seat / 2 + 0.05), 0)
    a.box((width, arm, back), (0, -depth / 2 + arm / 2, seat + back / 2), 0)
    a.details.append("cushions")
    if a.rng.random() < 0.8:
        a.details.append("armrests")
        for x in (-width / 2 + arm / 2, width / 2 - arm / 2):
            a.box((arm, depth, u(0.15, 0.3)), (x, 0, seat + 0.12), 0)
    count = int(a.rng.integers(1, 4))
    for place in range(count):
        part = (width - 2 * arm) / count
        a.box((part * 0.95, depth * 0.8, 0.12), (-width / 2 + arm + part * (place + 0.5), 0.05, seat + 0.08), 1)


def bed(a: Assembly) -> None:
    u = a.rng.uniform
    width, length, height = u(0.9, 1.9), u(1.8, 2.2), u(0.2, 0.5)
    a.box((width, length, height * 0.5), (0, 0, height * 0.4), 0)
    a.box((width * 0.96, length * 0.97, height * 0.5), (0, 0, height * 0.9), 3)
    a.details.append("pillows")
    if a.rng.random() < 0.8:
        a.details.append("a headboard")
        a.box((width, 0.06, u(0.5, 1.2)), (0, -length / 2, 0.4), 0)
    if a.rng.random() < 0.4:
        a.box((width, 0.06, u(0.3, 0.6)), (0, length / 2, 0.25), 0)
    for x in (-width / 4, width / 4):
        a.box((width * 0.35, 0.35, 0.12), (x, -length / 2 + 0.3, height * 1.15 + 0.05), 4)


def cabinet(a: Assembly) -> None:
    u = a.rng.uniform
    width, depth, height = u(0.4, 1.6), u(0.3, 0.7), u(0.4, 2.1)
    legs = u(0, 0.2) if a.rng.random() < 0.4 else 0.0
    a.box((width, depth, height), (0, 0, height / 2 + legs), 0)
    if legs > 0.05:
        _legs(a, width * 0.9, depth * 0.9, legs)
    columns, rows = int(a.rng.integers(1, 4)), int(a.rng.integers(1, 5))
    a.details.append("drawers" if rows > 2 else "doors")
    for x in (np.arange(columns) + 0.5) / columns - 0.5:
        for z in (np.arange(rows) + 0.5) / rows:
            face = (width / columns * 0.9, 0.03, height / rows * 0.9)
            a.box(face, (x * width, depth / 2 + 0.01, legs + z * height), 1)
            a.box((0.06, 0.04, 0.03), (x * width, depth / 2 + 0.04, legs + z * height), 3)
    if a.rng.random() < 0.4:
        a.box((width * 1.06, depth * 1.06, 0.05), (0, 0, height + legs), 2)


def shelf(a: Assembly) -> None:
    u = a.rng.uniform
    width, depth, height, thick = u(0.5, 1.6), u(0.2, 0.45), u(0.6, 2.1), u(0.02, 0.06)
    for x in (-width / 2, width / 2):
        a.box((thick, depth, height), (x, 0, height / 2), 0)
    levels = int(a.rng.integers(2, 7))
    for z in np.linspace(thick, height - thick, levels):
        a.box((width, depth, thick), (0, 0, z), 0)
        if a.rng.random() < 0.5:
            a.details.append("books")
            some = width * u(0.2, 0.8)
            a.box(
                (some, depth * 0.7, height / levels * u(0.3, 0.8)),
                (u(-1, 1) * (width - some) / 2.2, 0, z + height / levels * 0.3),
                None,
            )
    if a.rng.random() < 0.6:
        a.details.append("a solid back")
        a.box((width, 0.02, height), (0, -depth / 2, height / 2), 1)


def lamp(a: Assembly) -> None:
    u = a.rng.uniform
    height, radius = u(0.4, 1.8), u(0.12, 0.4)
    a.add(trimesh.creation.cylinder(u(0.1, 0.25), u(0.02, 0.08), sections=20), (0, 0, 0.03), 0)
    a.rod((0, 0, 0), (0, 0, height), u(0.02, 0.08), 1, round_=True)
    tall = u(0.15, 0.45)
    a.details.append("a wide shade" if radius > 0.26 else "a narrow shade")
    a.lathe(np.array([[0, 0], [radius, 0], [radius * u(0.4, 1), tall], [0, tall]]), (0, 0, height - tall / 2), 3)


def vessel(a: Assembly) -> None:
    a.lathe(_profile(a.rng, a.rng.uniform(0.4, 1.4)), (0, 0, 0), 0)
    if a.rng.random() < 0.3:
        a.details.append("a handle")
        ring = trimesh.creation.torus(0.2, 0.04, major_sections=16, minor_sections=6)
        a.add(ring, (0.45, 0, 0.4), 1, _about_x(np.pi / 2))


def plant(a: Assembly) -> None:
    u, rng = a.rng.uniform, a.rng
    pot, wide = u(0.15, 0.5), u(0.15, 0.4)
    if rng.random() < 0.7:
        a.details.append("a round pot")
        a.lathe(np.array([[0, 0], [wide * 0.7, 0], [wide, pot], [0, pot]]), (0, 0, 0), 3)
    else:
        a.details.append("a square pot")
        a.box((wide * u(2, 5), wide * 2, pot), (0, 0, pot / 2), 3)
    a.palette[:2] = np.clip(np.array([u(0, 0.4), u(0.3, 0.8), u(0, 0.3)]) + rng.normal(0, 0.05, (2, 3)), 0, 1)
    tall = pot + u(0, 0.8)
    if tall > pot + 0.2:
        a.rod((0, 0, pot), (0, 0, tall), 0.05, 4, round_=True)
    reach = u(0.25, 0.7)
    if rng.random() < 0.4:
        a.details.append("round leaves")
        for _ in range(int(rng.integers(3, 9))):
            ball = trimesh.creation.icosphere(1, radius=reach * u(0.3, 0.7))
            a.add(ball, tuple(np.array((0, 0, tall)) + rng.normal(0, reach * 0.4, 3)), int(rng.integers(2)))
        return
    a.details.append("long leaves")
    for _ in range(int(rng.integers(8, 30))):
        direction = rng.normal(0, 1, 3) + np.array((0, 0, u(0, 1.2)))
        direction /= np.linalg.norm(direction)
        leaf = trimesh.creation.icosphere(1, radius=0.5)
        leaf.apply_scale((reach * u(0.15, 0.35), 0.02, reach))
        turn = np.asarray(trimesh.geometry.align_vectors((0, 0, 1), direction))[:3, :3]
        a.add(leaf, tuple(np.array((0, 0, tall)) + direction * reach * 0.5), int(rng.integers(2)), turn)


def panel(a: Assembly) -> None:
    """Pictures, telephones, doors, windows, boards: flat things, upright, lying or leaning."""
    u = a.rng.uniform
    width, height, thick = u(0.4, 1.4), u(0.4, 2.0), u(0.02, 0.15)
    turn = _about_x((0.0, np.pi / 2, u(-0.5, 0.5))[a.rng.integers(3)])
    a.box((width, thick, height), (0, 0, 0), 0, turn)
    inset = turn @ np.array((0, thick / 2 + 0.005, 0))
    a.box((width * u(0.6, 0.95), 0.01, height * u(0.6, 0.95)), tuple(inset), 3, turn)


def appliance(a: Assembly) -> None:
    """A body with smaller bodies on and before it."""
    u, rng = a.rng.uniform, a.rng
    size = (u(0.4, 1.0), u(0.4, 1.0), u(0.3, 1.2))
    if rng.random() < 0.3:
        a.details.append("a round body")
        a.add(trimesh.creation.cylinder(size[0] / 2, size[2], sections=20), (0, 0, size[2] / 2), 0)
    else:
        a.details.append("a square body")
        a.box(size, (0, 0, size[2] / 2), 0)
    for _ in range(int(rng.integers(1, 5))):
        small = rng.uniform(0.1, 0.7, 3) * size
        side = int(rng.integers(3))
        place = rng.uniform(-0.4, 0.4, 3) * size
        place[side] = size[side] / 2 * (1 if side == 2 else rng.choice((-1, 1)))
        place[2] += size[2] / 2
        solid = (
            trimesh.creation.box(small) if rng.random() < 0.6 else trimesh.creation.icosphere(2, radius=small.min() / 2)
        )
        a.add(solid, tuple(place), None)


def heap(a: Assembly) -> None:
    """Primitives of any kind, place and turn."""
    rng = a.rng
    for _ in range(int(rng.integers(1, 7))):
        size = np.exp(rng.uniform(-1.6, 0.2, 3))
        make = (
            lambda: trimesh.creation.box((1, 1, 1)),
            lambda: trimesh.creation.icosphere(2, radius=0.5),
            lambda: trimesh.creation.cylinder(0.5, 1, sections=16),
            lambda: trimesh.creation.cone(0.5, 1, sections=16),
            lambda: trimesh.creation.torus(0.4, 0.12, major_sections=16, minor_sections=8),
        )[rng.integers(5)]
        part = make()
        part.apply_scale(size)
        turn = (
            trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3] if rng.random() < 0.4 else np.eye(3)
        )
        a.add(part, tuple(rng.uniform(-0.5, 0.5, 3)), None, turn)


def _legs(a: Assembly, width: float, depth: float, height: float) -> None:
    """Four legs, upright or spread, round or square, sometimes with rails; or two sides, or four."""
    u = a.rng.uniform
    thick, splay, round_ = u(0.03, 0.1), u(0, 0.15) if a.rng.random() < 0.4 else 0.0, bool(a.rng.random() < 0.5)
    if a.rng.random() < 0.12:
        for x in (-width / 2, width / 2):
            a.box((thick, depth, height), (x, 0, height / 2), 1)
        return
    a.details.append("round legs" if round_ else "square legs")
    corners = [(x * width / 2, y * depth / 2) for x in (-1, 1) for y in (-1, 1)]
    for x, y in corners:
        a.rod((x * (1 + splay), y * (1 + splay), 0), (x, y, height), thick, 1, round_=round_)
    if a.rng.random() < 0.3:
        z = height * u(0.15, 0.6)
        for x in (-width / 2, width / 2):
            a.box((thick * 0.7, depth, thick * 0.7), (x, 0, z), 1)
        a.box((width, thick * 0.7, thick * 0.7), (0, 0, z), 1)


def _profile(rng: np.random.Generator, height: float) -> Float[np.ndarray, "p 2"]:
    """A closed outline of a pot or vase, from the axis at the bottom to the axis at the top."""
    knots = rng.uniform(0.08, 0.5, int(rng.integers(3, 6)))
    z = np.linspace(0, height, 12)
    radius = np.interp(z, np.linspace(0, height, len(knots)), knots)
    return np.vstack(([0, 0], np.stack((radius, z), 1), [0, height]))


def _about_x(angle: float) -> Float[np.ndarray, "3 3"]:
    return np.asarray(trimesh.transformations.rotation_matrix(angle, (1, 0, 0)))[:3, :3]
