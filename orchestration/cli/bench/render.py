"""The renderer beside Blender Cycles, OpenGL and a ray caster: one machine, one core, same objects, cameras and size.

CPU seconds of the rendering alone (no reading, no encoding), medians of five. A peer runs in a child process, so that
its absence or its crash is one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from models.camera import Camera
from orchestration import paths, pipeline
from orchestration.cli.bench.registry import Row
from orchestration.cli.sample import fetch_sample
from orchestration.errors import OrbitforgeError
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import load_mesh

OBJECTS = ("couch.glb", "oakChair.glb", "technicalTable2.glb")
"""22,682 textured faces, 31,786 thin ones, and six plain colours; all opaque."""
VIEWS, ELEVATION = 6, 25.0
CONFIG = RenderingConfig.model_validate({"size": 256, "supersampling": 2, "device": "cpu"})
TIMES_CYCLES, TIMES_OPENGL, TWO_PROCESSES, DECIBELS = 20.0, 1.5, 1.7, 35.0
PEERS = {"cycles": "Blender Cycles, 16 samples", "opengl": "OpenGL by moderngl on EGL, 4 samples"}
PINNED = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Result:
    """CPU seconds of an orbit by object, wall-clock seconds of everything timed, and the images where asked for."""

    seconds: dict[str, float]
    wall: float
    images: dict[str, UInt8[np.ndarray, "n h w 4"]]


def measure(report: Callable[[str], None]) -> list[Row]:
    """Writes the scenes once as arrays, so that every renderer draws the same numbers."""
    from rich.console import Console

    fetch_sample(Console(stderr=True))
    with tempfile.TemporaryDirectory(prefix="orbitforge-bench-") as folder:
        root = Path(folder)
        _write_scenes(root)
        ours, again = _run("ours", root, report), _run("ours", root, report)
        if ours is None or again is None:
            raise OrbitforgeError("the renderer itself failed; the line above says why")
        found = {name: _run(name, root, report) for name in (*PEERS, "rays")}
        pair = _together(root, report)
        gpu = _run("gpu", root, report)
    rows = [
        *_speed(ours, found["cycles"], PEERS["cycles"], TIMES_CYCLES),
        *_speed(ours, found["opengl"], PEERS["opengl"], TIMES_OPENGL),
        Row("one core", "views/s", VIEWS * len(OBJECTS) / sum(ours.seconds.values())),
        Row("two processes beside one", "times", pair, target=TWO_PROCESSES, at_least=True),
        Row("two runs, bytes that differ", "bytes", _differing(ours, again), target=0),
    ]
    if rays := found["rays"]:
        differing = [int((ours.images[name][..., 3] != rays.images[name][..., 3]).sum()) for name in ours.images]
        rows.append(Row("alpha beside embree, pixels that differ", "pixels", sum(differing), target=0))
    if opengl := found["opengl"]:
        decibels = min(_psnr(ours.images[name], opengl.images[name]) for name in ours.images)
        rows.append(Row("colours beside OpenGL, worst object", "dB PSNR", decibels, target=DECIBELS, at_least=True))
    if gpu:
        rows.append(Row("one GPU", "views/s", VIEWS * len(OBJECTS) / gpu.wall))
    return rows


def _write_scenes(root: Path) -> None:
    meshes = paths.data() / pipeline.current().preset.source.folder / "meshes"
    for file in OBJECTS:
        if not (meshes / file).is_file():
            raise OrbitforgeError(f"{meshes / file} is missing; this bench draws the objects that Orbitforge ships")
        np.savez(root / Path(file).with_suffix(".scene.npz"), **vars(load_mesh(meshes / file, CONFIG)))
    np.save(root / "cameras.npy", Camera.orbit(VIEWS, ELEVATION, CONFIG.radius, CONFIG.focal).numbers().numpy())
    (root / "config.json").write_text(CONFIG.model_dump_json())


def _start(name: str, root: Path, number: int) -> subprocess.Popen[str]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    environment = {**os.environ, **dict.fromkeys(PINNED, "1"), "LP_NUM_THREADS": "0"}  # llvmpipe: in its caller
    return subprocess.Popen(
        [sys.executable, "-m", "orchestration.cli.bench.render_child", name, str(root), str(number),
         str(cores[number % len(cores)])],
        env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _run(name: str, root: Path, report: Callable[[str], None]) -> Result | None:
    """What one child found, or None after a line that says why there is nothing."""
    child = _start(name, root, 0)
    _, errors = child.communicate("go\n")
    said = [line for line in errors.splitlines() if line.strip()]
    if child.returncode:
        report(f"{name}: not measured: {said[-1] if said else f'exit code {child.returncode}'}")
        return None
    told = json.loads((root / f"{name}-0.json").read_text())
    with np.load(root / f"{name}-0.npz") as images:
        result = Result(told["seconds"], told["wall"], dict(images))
    report(f"{name}: {told['device']}")
    return result


def _together(root: Path, report: Callable[[str], None]) -> float:
    """How many times the throughput of one process two have, by the clock; each waits until the other is warm."""

    def seconds(count: int) -> float:
        children = [_start("ours", root, number) for number in range(count)]
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        began = time.perf_counter()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        ended = time.perf_counter()
        for child in children:
            child.communicate()
        return ended - began

    if (os.cpu_count() or 1) < 2:
        report("two processes: not measured: one core here")
        return float("nan")
    if (load := os.getloadavg()[0]) > 0.5:
        report(f"two processes: the machine is not idle (load {load:.1f}), the figure says little")
    return float(np.median([2 * seconds(1) / seconds(2) for _ in range(3)]))


def _speed(ours: Result, peer: Result | None, name: str, times: float) -> list[Row]:
    def row(work: str, objects: list[str], target: bool) -> Row:
        mine = 1000 * sum(ours.seconds[key] for key in objects) / VIEWS / len(objects)
        if peer is None:
            return Row(f"{work} beside {name}", "CPU ms/view", mine)
        theirs = 1000 * sum(peer.seconds[key] for key in objects) / VIEWS / len(objects)
        return Row(f"{work} beside {name}", "CPU ms/view", mine, theirs, theirs / times if target else None)

    return [*(row(key, [key], False) for key in ours.seconds), row("all", list(ours.seconds), True)]


def _differing(one: Result, other: Result) -> int:
    return sum(int((one.images[name] != other.images[name]).sum()) for name in one.images)


def _psnr(one: UInt8[np.ndarray, "n h w 4"], other: UInt8[np.ndarray, "n h w 4"]) -> float:
    """Over pixels that either covers, on white."""
    covered = (one[..., 3] > 0) | (other[..., 3] > 0)
    error = float(((_on_white(one) - _on_white(other))[covered] ** 2).mean())
    return 10 * float(np.log10(1 / max(error, 1e-12)))


def _on_white(rgba: UInt8[np.ndarray, "n h w 4"]) -> Float[np.ndarray, "n h w 3"]:
    values = rgba.astype(np.float64) / 255
    return values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
