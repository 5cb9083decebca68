"""One renderer of the bench in a process of its own: `python -m ... NAME FOLDER NUMBER CORE`.

Prints `ready` when it is warm, waits for a line, works, prints `done`; leaves NAME-NUMBER.json and NAME-NUMBER.npz.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from models.camera import Camera
from stages.rendering.config import RenderingConfig
from stages.rendering.mesh import Mesh

REPEATS = 5


@dataclass(frozen=True)
class Job:
    """An object ready to be drawn: `work` is what is timed, `images` gives the pictures that are compared."""

    work: Callable[[], object] | None
    images: Callable[[], UInt8[np.ndarray, "n h w 4"]]


def main(name: str, folder: str, number: str, core: str) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    torch.set_num_threads(1)
    root = Path(folder)
    config = RenderingConfig.model_validate_json((root / "config.json").read_text())
    cameras = Camera.from_numbers(torch.from_numpy(np.load(root / "cameras.npy")))
    peer = importlib.import_module(f"orchestration.cli.bench.render_{name}")
    jobs: dict[str, Job] = {}
    for scene in sorted(root.glob("*.scene.npz")):
        with np.load(scene) as arrays:
            jobs[scene.name.removesuffix(".scene.npz")] = peer.prepare(Mesh(**arrays), cameras, config)
    images = {key: job.images() for key, job in jobs.items()}
    for job in jobs.values():
        if job.work:
            job.work()
    print("ready", flush=True)
    sys.stdin.readline()
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    for key, job in jobs.items():
        if job.work:
            seconds[key] = float(np.median([_cpu_seconds(job.work) for _ in range(REPEATS)]))
    wall = (time.perf_counter() - began) / REPEATS
    print("done", flush=True)
    told = {"seconds": seconds, "wall": wall, "device": peer.device()}
    (root / f"{name}-{number}.json").write_text(json.dumps(told))
    np.savez(root / f"{name}-{number}.npz", allow_pickle=False, **images)


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()  # of all threads
    work()
    return time.process_time() - began


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # whatever a peer raises becomes the one line that the bench shows
        sys.exit(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
