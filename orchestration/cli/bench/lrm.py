"""The reconstruction model's renderer, grids and training step beside a plain implementation of the conventions.

Same planes, weights and cameras; CPU seconds of one thread; ours the median of three, the plain side once. Grids are
compared with the plain implementation in float64: in float32 it is itself off by more than ours is (its look-up loses
digits of the coordinates), which is told beside it. Take the figures on an idle machine: a neighbour on the same core
halves the speed of matrix products, and hardly that of look-ups.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

if TYPE_CHECKING:
    from torch import Tensor

    from models.lrm import LRM

T = TypeVar("T")
SIZE, GRID, LARGE = 128, 256, 512
THRESHOLD = 1.0
SLABS = 8
"""Of a grid, compared in float64."""
STEP = {"size": 192, "crop": (64, 64, 64), "views": 4}
WANTED = {"render": 8, "grid": 10, "sparse grid": 16, "step": 1 / 0.8, "step memory": 2}
"""How many times faster, or smaller, than the plain side."""
LARGE_MB = 400.0


def measure(report: Callable[[str], None]) -> list[Row]:
    """Render 128 x 128 (128 samples), grids, and one training step of OpenLRM-small."""
    import torch

    torch.set_num_threads(1)
    rows = [_render(report), _grid(report, 128), _grid(report, GRID), _sparse_grid(report)]
    report(f"a mesh from a grid of {LARGE} points a side, in a process of its own")
    large = _apart("mesh")
    rows += [
        Row(f"mesh, grid {LARGE}: peak above the loaded model", "MB", large["mb"], target=LARGE_MB),
        Row(f"mesh, grid {LARGE}", "CPU s", large["seconds"]),
    ]
    report("a training step of OpenLRM-small, ours and plain, each in a process of its own")
    ours, plain = _apart("step", "ours"), _apart("step", "plain")
    least = 1e-6 * max(plain["gradients"])  # of attention's keys the bias has none: what is there is rounding
    pairs = zip(ours["gradients"], plain["gradients"], strict=True)
    off = max(abs(a - b) / b for a, b in pairs if b > least)
    work = "training step, OpenLRM-small, four 64 x 64 crops"
    for part, unit, share in (
        ("seconds", "CPU s", WANTED["step"]),
        ("mb", "MB", WANTED["step memory"]),
        ("render_seconds", "CPU s", None),
        ("render_mb", "MB", None),
    ):
        name = f"{work}{': renderer' if part.startswith('render') else ''}"
        rows.append(Row(name, unit, ours[part], plain[part], share and plain[part] / share, off))
    return rows


def published(kind: str, **fewer: int) -> LRM:
    """A published shape with random weights; `fewer` layers where the rest of the model does not matter."""
    import torch

    from models.lrm import LRM
    from models.published import config_of

    torch.manual_seed(0)
    return LRM.from_config(config_of(kind, **fewer)).eval()  # pyright: ignore[reportArgumentType]


def _render(report: Callable[[str], None]) -> Row:
    import torch

    from models.camera import Camera
    from orchestration.cli.bench import lrm_plain

    report(f"render {SIZE} x {SIZE}")
    lrm = published("vfusion3d", layers=1, encoder_layers=1)
    planes = torch.randn(1, 3, 80, 64, 64)
    ring = Camera.orbit(1, 20.0)
    cameras = Camera(ring.pose[None], ring.intrinsics[None])
    origins, directions = (part[0, 0] for part in cameras.rays(SIZE))
    with torch.no_grad():
        lrm.render(planes, cameras, 8)  # compiles
        seen, ours = _thrice(lambda: lrm.render(planes, cameras, SIZE))
        truth, plain = timed(lambda: lrm_plain.render(planes[0], lrm.synthesizer.decoder.net, origins, directions, 128))
    rgb = (seen.rgb[0, 0].flatten(1).T - truth[0]).abs().max()
    others = (seen.depth.flatten() - truth[1]).abs().max(), (seen.weight.flatten() - truth[2]).abs().max()
    off = float(max(rgb, *others))
    return Row(f"render {SIZE} x {SIZE}, 128 samples", "CPU s", ours, plain, plain / WANTED["render"], off)


def _grid(report: Callable[[str], None], side: int) -> Row:
    import torch

    report(f"grid of {side}, random planes")
    lrm, planes = published("vfusion3d", layers=1, encoder_layers=1), torch.randn(1, 3, 80, 64, 64)
    with torch.no_grad():
        seen, ours = _thrice(lambda: torch.cat(list(lrm.densities(planes, side))))
        single, plain = timed(lambda: _plain_grid(lrm, planes, side))
    off = _off(report, lrm, planes, seen, single)
    return Row(f"grid {side}, random planes", "CPU s", ours, plain, plain / WANTED["grid"], off)


def _sparse_grid(report: Callable[[str], None]) -> Row:
    import torch

    report(f"grid of {GRID}, planes fitted to a chair; blocks below the threshold are skipped")
    lrm, planes = fitted()
    with torch.no_grad():
        seen, ours = _thrice(lambda: torch.cat(list(lrm.densities(planes, GRID, THRESHOLD))))
        single, plain = timed(lambda: _plain_grid(lrm, planes, GRID))
    kept = seen > 0
    if float(single[~kept].max()) >= THRESHOLD:
        raise OrbitforgeError(f"a skipped point has density {float(single[~kept].max()):.3g}; the bounds are wrong")
    report(f"{float((~kept).float().mean()):.0%} of the points skipped")
    off = _off(report, lrm, planes, seen, single)
    return Row(f"grid {GRID}, fitted planes", "CPU s", ours, plain, plain / WANTED["sparse grid"], off)


def _off(report: Callable[[str], None], lrm: LRM, planes: Tensor, ours: Tensor, single: Tensor) -> float:
    """How far densities that were not skipped are from float64 in some slabs, relative to those above 1."""
    import torch

    rows = slice(0, len(ours), max(1, len(ours) // SLABS))
    with torch.no_grad():
        truth = _plain_grid(deepcopy(lrm).double(), planes.double(), len(ours), rows)
    kept, scale = ours[rows] > 0, truth.clamp(min=1)
    off, plain = (float(((side[rows] - truth).abs() / scale)[kept].max()) for side in (ours, single))
    report(f"off float64 by {off:.1e}; the plain side in float32 by {plain:.1e}")
    return off


def _plain_grid(lrm: LRM, planes: Tensor, side: int, some: slice = slice(None)) -> Tensor:
    import torch

    from orchestration.cli.bench import lrm_plain

    line = torch.linspace(-1, 1, side, dtype=planes.dtype)
    rows = max(1, lrm_plain.CHUNK // side**2)
    parts = []
    for x in line[some].split(rows):
        points = torch.cartesian_prod(x, line, line)
        raw, _ = lrm_plain.ask(planes[0], lrm.synthesizer.decoder.net, points)
        parts.append(torch.nn.functional.softplus(raw - 1).view(len(x), side, side))
    return torch.cat(parts)


def fitted(steps: int = 500) -> tuple[LRM, Tensor]:
    """A decoder of the published shape and planes trained on the inside of a chair of six boxes, from points."""
    import torch

    from models.triplane import density_of

    lrm = published("vfusion3d", layers=1, encoder_layers=1)
    seat = [((-0.5, -0.5, -0.1), (0.5, 0.5, 0.05)), ((-0.5, 0.4, -0.1), (0.5, 0.5, 0.8))]
    legs = [((x, y, -0.8), (x + 0.1, y + 0.1, 0.0)) for x in (-0.5, 0.4) for y in (-0.5, 0.4)]
    corners = torch.tensor([*seat, *legs])  # [boxes, 2, 3]
    planes = (0.01 * torch.randn(1, 3, 80, 64, 64)).requires_grad_()
    decoder = list(lrm.synthesizer.decoder.parameters())
    optimizer = torch.optim.AdamW([{"params": [planes], "lr": 5e-3}, {"params": decoder, "lr": 3e-3}], weight_decay=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        points = torch.rand(1, 8192, 3) * 2 - 1
        inside = ((points[0, :, None] > corners[:, 0]) & (points[0, :, None] < corners[:, 1])).all(-1).any(-1)
        _, raw = lrm.field(planes)(points)
        loss = (1 - torch.exp(-density_of(raw[0]) / 10) - inside.float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return lrm.requires_grad_(False), planes.detach()


def mesh_apart() -> dict[str, Any]:
    """Seconds and peak memory of a mesh, for a fresh process."""
    from stages.reconstruction.config import MeshConfig
    from stages.reconstruction.mesh import extract_mesh

    lrm, planes = fitted()
    triplane = lrm.field(planes).planes
    extract_mesh(lrm, triplane, MeshConfig.model_validate({"grid": 16, "threshold": THRESHOLD}))  # compiles
    before = _resident_mb()
    _forget_peak()
    _, seconds = timed(
        lambda: extract_mesh(lrm, triplane, MeshConfig.model_validate({"grid": LARGE, "threshold": THRESHOLD}))
    )
    return {"seconds": seconds, "mb": _peak_mb() - before}


def step_apart(side: str) -> dict[str, Any]:
    """Seconds and peak memory of a forward and backward pass, for a fresh process."""
    import torch

    from models.camera import Camera
    from orchestration.cli.bench import lrm_plain

    lrm = published("openlrm-small").train()
    if side == "plain":
        lrm.transformer.layers = torch.nn.ModuleList(map(lrm_plain.PlainBlock, lrm.transformer.layers))  # pyright: ignore
    torch.nn.init.normal_(lrm.synthesizer.decoder.net[-1].bias, std=2)  # pyright: ignore
    ring = Camera.orbit(STEP["views"], 20.0, radius=2.0)
    cameras = Camera(ring.pose[None], ring.intrinsics[None])
    image = torch.rand(1, 3, 224, 224)

    def loss_of(planes: Tensor, crop: tuple[int, int, int]) -> Tensor:
        if side == "ours":
            rgb, _, weight = lrm.render(planes, cameras, STEP["size"], crop)
            return rgb.square().mean() + weight.square().mean()
        origins, directions = (part[0].flatten(0, 1) for part in cameras.rays(STEP["size"], crop))
        rgb, _, weight = lrm_plain.render(planes[0], lrm.synthesizer.decoder.net, origins, directions, 96)
        return rgb.square().mean() + weight.square().mean()

    loss_of(torch.randn(1, 3, 32, 64, 64, requires_grad=True), (94, 94, 4)).backward()  # compiles
    figures: dict[str, Any] = {}
    for name in ("render_", ""):
        lrm.zero_grad(set_to_none=True)
        before = _resident_mb()
        _forget_peak()
        held = torch.randn(1, 3, 32, 64, 64).requires_grad_() if name else None
        began = time.process_time()
        loss = loss_of(lrm.planes(image, cameras[:, 0]) if held is None else held, STEP["crop"])
        loss.backward()
        figures |= {f"{name}seconds": time.process_time() - began, f"{name}mb": _peak_mb() - before}
    parameters = {name: p for name, p in lrm.named_parameters() if p.grad is not None}
    figures["gradients"] = [float(p.grad.norm()) for p in parameters.values() if p.grad is not None]
    return figures


def _apart(*what: str) -> dict[str, Any]:
    code = f"from orchestration.cli.bench import lrm; lrm.print_apart(*{what!r})"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise OrbitforgeError(f"{' '.join(what)} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_apart(work: str, *side: str) -> None:
    """What the fresh process runs."""
    import torch

    torch.set_num_threads(1)
    print(json.dumps(mesh_apart() if work == "mesh" else step_apart(*side)))


def _resident_mb() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _forget_peak() -> None:
    """Let the kernel count the peak from here on (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
            file.write("5")
    except OSError as error:
        raise OrbitforgeError(f"the peak of memory cannot be measured here: {error}") from None


def _peak_mb() -> float:
    import re
    from pathlib import Path

    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    if found is None:
        raise OrbitforgeError("the kernel tells no peak of memory in /proc/self/status")
    return int(found[1]) / 1024


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What work makes, and its CPU seconds."""
    began = time.process_time()
    made = work()
    return made, time.process_time() - began


def _thrice(work: Callable[[], T]) -> tuple[T, float]:
    runs = [timed(work) for _ in range(3)]
    return runs[-1][0], median(seconds for _, seconds in runs)
