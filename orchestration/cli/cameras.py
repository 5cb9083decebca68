"""`orbitforge cameras` and `orbitforge validate`: what the cameras are, and whether stored ones are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestration.cli.progress import Bars
from orchestration.cli.terminal import printable
from orchestration.errors import OrbitforgeError


def cameras_command(output: Path) -> None:
    from orchestration.presets.schema import current_preset
    from stages.rendering.axes import draw_axes
    from stages.rendering.cameras import elevations

    preset = current_preset()
    cameras = draw_axes(preset.rendering, output, seed=preset.seed)
    angles = elevations(cameras)
    print(f"{output}: {len(angles)} cameras, elevations {angles.min():.1f} to {angles.max():.1f} degrees")


def _read(shard: Path, read_clips: Callable[[Path], Iterator[Any]]) -> Iterator[Any]:
    try:
        yield from read_clips(shard)
    except ValueError as error:
        raise OrbitforgeError(str(error)) from None


def validate_command(folder: Path, *, every: int, as_json: bool) -> None:
    """Raises OrbitforgeError when there is no shard, or when a sample's cameras and views do not belong together."""
    from stages.quality.clips import Broken, read_clips
    from stages.rendering.validate import Problem, validate

    shards = [folder] if folder.is_file() else sorted(folder.rglob("views.tar"))
    if not shards:
        raise OrbitforgeError(f"{folder} holds no views.tar; name a folder of rendered shards")
    tried, problems = 0, []
    with Bars(Console(stderr=True)) as bars:
        for done, shard in enumerate(shards):
            bars.of("looking at shards")({"step": done, "of": len(shards)})
            for number, sample in enumerate(_read(shard, read_clips)):
                if number % every == 0 or isinstance(sample, Broken):
                    tried += 1
                    broken = isinstance(sample, Broken)
                    found = [Problem(sample.id, sample.reason)] if broken else list(validate(sample))
                    problems += [{"shard": str(shard), "id": each.id, "found": each.found} for each in found]
    if as_json:
        print(json.dumps({"samples": tried, "problems": problems}))
    else:
        for problem in problems:
            print(printable(f"{problem['shard']} {problem['id']}: {problem['found']}"))
        print(f"{tried} samples of {len(shards)} shards looked at, {len(problems)} problems")
    if not tried:
        raise OrbitforgeError(f"{folder} holds no sample: its {len(shards)} shards are empty")
    if problems:
        bad = len({(problem["shard"], problem["id"]) for problem in problems})
        raise OrbitforgeError(f"cameras of {bad} of {tried} samples do not fit their views; render these shards again")
