"""One point of the scaling experiments: what a small LRM learns from. Its key says all of it, and names its shard."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stages.scaling.config import GridConfig

FINETUNED, BASE = "finetuned", "base"
"""The video model that made the clips: fine-tuned on the rendered objects, or as it was before."""
FILTERED, UNFILTERED = "filtered", "unfiltered"
USUAL = "usual"
SWITCHES = ("opacity-off", "camera-noise-off", "staged-size-on", "perceptual-on")
"""The four training strategies of VFusion3D (section 3.3), each switched from what the small presets do."""
_KEY = re.compile(
    r"clips(?P<clips>\d+)-(?P<kept>[a-z]+)-video-(?P<video>[a-z]+)-objects(?P<objects>\d+)-(?P<strategy>[a-z-]+)"
    r"-seed(?P<seed>\d+)"
)


@dataclass(frozen=True, order=True)
class Point:
    """`clips` synthetic clips, then `objects` rendered objects; 0 leaves that part out."""

    clips: int
    objects: int
    kept: str = FILTERED
    video: str = FINETUNED
    strategy: str = USUAL
    seed: int = 0

    @property
    def key(self) -> str:
        return (
            f"clips{self.clips:07d}-{self.kept}-video-{self.video}-objects{self.objects:06d}-{self.strategy}"
            f"-seed{self.seed}"
        )

    @classmethod
    def of(cls, key: str) -> Point:
        """The inverse of `key`. Raises ValueError for any other text."""
        if not (found := _KEY.fullmatch(key)):
            raise ValueError(f"{key!r} is no point of the scaling experiments, such as {cls(128, 0).key!r}")
        parts = found.groupdict()
        return cls(
            int(parts["clips"]),
            int(parts["objects"]),
            parts["kept"],
            parts["video"],
            parts["strategy"],
            int(parts["seed"]),
        )


class Place(NamedTuple):
    """Where a point stands in an experiment: `label` in a table, `x` on an axis where the experiment has one."""

    experiment: str
    label: str
    x: float | None
    point: Point


SIZE, OBJECTS, SOURCES, FILTER, VIDEO, STRATEGIES = (
    *("synthetic size", "objects", "sources", "filter", "video model", "strategies"),
)


def places(grid: GridConfig) -> list[Place]:
    """Every place of every experiment that the grid has sizes for; a point can stand in several."""
    return [place for seed in grid.seeds for place in _of_seed(grid, seed)]


def _of_seed(grid: GridConfig, seed: int) -> Iterable[Place]:
    clips, objects = (sizes[-1] if sizes else 0 for sizes in (grid.clips, grid.objects))
    for size in grid.clips:
        yield Place(SIZE, f"{size} clips", size, Point(size, 0, seed=seed))
    for size in grid.objects:
        yield Place(OBJECTS, f"{size} objects", size, Point(0, size, seed=seed))
    if clips and objects:
        yield Place(SOURCES, "3D objects alone", None, Point(0, objects, seed=seed))
        yield Place(SOURCES, "synthetic alone", None, Point(clips, 0, seed=seed))
        yield Place(SOURCES, "synthetic, then 3D objects", None, Point(clips, objects, seed=seed))
    if some := grid.compared:
        yield Place(FILTER, "filtered", None, Point(some, 0, seed=seed))
        yield Place(FILTER, "unfiltered", None, Point(some, 0, UNFILTERED, seed=seed))
        # of the same prompts, and unfiltered: a filter would hide what the weaker model makes
        yield Place(VIDEO, "fine-tuned", None, Point(some, 0, UNFILTERED, seed=seed))
        yield Place(VIDEO, "before fine-tuning", None, Point(some, 0, UNFILTERED, BASE, seed=seed))
    if clips:
        yield Place(STRATEGIES, "as the preset has them", None, Point(clips, 0, seed=seed))
        for switch in SWITCHES:
            yield Place(STRATEGIES, switch.replace("-", " "), None, Point(clips, 0, strategy=switch, seed=seed))


def keys(grid: GridConfig) -> list[str]:
    """The shards of the points, each once, sorted."""
    return sorted({place.point.key for place in places(grid)})


def nested(ids: Iterable[str], count: int, seed: int) -> list[str]:
    """`count` of `ids`, the first in an order that the seed shuffles: a smaller subset lies within a larger one."""
    return sorted(ids, key=lambda id_: hashlib.sha256(f"{seed}/{id_}".encode()).digest())[:count]
