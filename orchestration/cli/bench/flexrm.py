"""The reconstruction from any number of views: drawing Gaussians beside a plain dense compositor.

CPU seconds of one thread; ours the median of five, the plain side once.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from orchestration.cli.bench import flexrm_curation, flexrm_seeds
from orchestration.cli.bench.lrm import timed
from orchestration.cli.bench.registry import Row

if TYPE_CHECKING:
    from torch import Tensor

    from models.gaussians import Gaussians

T = TypeVar("T")
MANY = 10_000
FORWARD_SECONDS, VIEW_SECONDS = 0.2, 0.05
SIDE, BOX = 22, 0.82
"""Of the grid that a small model places its Gaussians on: 10,648 of them."""


def measure(report: Callable[[str], None]) -> list[Row]:
    """Every part in turn: drawing, curation, and two trainings beside the registered one."""
    import torch

    torch.set_num_threads(1)
    return [*rasteriser(report), *flexrm_curation.rows(report), *flexrm_seeds.seeds(report)]


def rasteriser(report: Callable[[str], None]) -> list[Row]:
    """One view of 64 px forward, and four of 32 px forward and backward as a training step has them."""
    from orchestration.cli.bench import flexrm_plain

    rows = []
    for name, gaussians in scenes().items():
        report(f"drawing {len(gaussians):,} Gaussians: {name}")
        ours, theirs = _draw(gaussians, 1, 64), _draw(gaussians, 1, 64, flexrm_plain.splat)
        work = f"rasteriser, 64 px, {len(gaussians):,} Gaussians, forward ({name})"
        rows.append(Row(work, "CPU s", ours[1], theirs[1], FORWARD_SECONDS, _off(ours[0], theirs[0])))
        ours = _draw(gaussians, 4, 32, backward=True)
        theirs = _draw(gaussians, 4, 32, flexrm_plain.splat, backward=True)
        work = f"rasteriser, 32 px, {len(gaussians):,} Gaussians, forward and backward ({name})"
        rows.append(Row(work, "CPU s a view", ours[1] / 4, theirs[1] / 4, VIEW_SECONDS, _off(ours[0], theirs[0])))
    return rows


def scenes() -> dict[str, Gaussians]:
    """A solid and a faint grid of small Gaussians as a model makes them, and larger ones anywhere."""
    import torch

    from models.gaussians import Gaussians

    draw = torch.Generator().manual_seed(0)
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 * BOX - BOX
    places = torch.cartesian_prod(line, line, line)
    places = places + BOX / SIDE * (torch.rand(places.shape, generator=draw) - 0.5)
    anywhere = BOX * (2 * torch.rand(MANY, 3, generator=draw) - 1)

    def made(positions: Tensor, scales: Tensor, opacity: float | Tensor) -> Gaussians:
        n = len(positions)
        rotations = torch.nn.functional.normalize(torch.randn(n, 4, generator=draw), dim=-1)
        return Gaussians(positions, scales, rotations, opacity * torch.ones(n), torch.rand(n, 3, generator=draw))

    def about(scale: float, count: int) -> Tensor:
        return scale * (0.8 + 0.4 * torch.rand(count, 3, generator=draw))

    small, opacities = about(BOX / SIDE, len(places)), torch.rand(MANY, generator=draw)
    return {
        "solid grid": made(places, small, 0.7),
        "faint grid": made(places, small, 0.05),
        "scattered": made(anywhere, about(0.04, MANY), opacities),
        "large, scattered": made(anywhere, about(0.2, MANY), opacities),
    }


def _draw(
    gaussians: Gaussians, views: int, size: int, plain: Callable[..., Tensor] | None = None, *, backward: bool = False
) -> tuple[list[Tensor], float]:
    """Images and gradients, where asked for, and CPU seconds."""
    import torch

    from models.camera import Camera
    from models.gaussians import Gaussians
    from models.splatting import splat

    ring = Camera.orbit(views, 20.0)
    fields = (gaussians.positions, gaussians.scales, gaussians.rotations, gaussians.opacities, gaussians.colours)
    target = torch.rand(views, 5, size, size, generator=torch.Generator().manual_seed(1))

    def work() -> list[Tensor]:
        leaves = [field.detach().clone().requires_grad_(backward) for field in fields]
        images = plain(*leaves, ring, size) if plain else torch.cat(splat(Gaussians(*leaves), ring, size), 1)
        if backward:
            (images * target).mean().backward()
        return [images.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    if plain:
        return timed(work)
    work()  # compiles
    runs = [timed(work) for _ in range(5)]
    return runs[-1][0], median(seconds for _, seconds in runs)


def _off(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference of images, or of gradients relative to the largest."""
    images, *grads = zip(ours, theirs, strict=True)
    far = [(images[0] - images[1]).abs().max()]
    far += [(one - other).abs().max() / other.abs().max() for one, other in grads]
    return float(max(far))
