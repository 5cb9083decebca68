"""The chain's trainings on two processes (gloo), beside one process, and with one of the two killed at a random step.

    python -m tests.survival.ranks [--folder EMPTY] [--trainings video_model,lrm_pretrained,lrm_finetuned,...]

Each is started by `orbitforge run --select`. Prints how far curves and weights are apart, how the run ended whose rank
was killed, which steps were lost, and whether the run after it ended with the bytes of the undisturbed one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import psutil
import yaml
from safetensors.numpy import load_file

from tests.survival.spread import COMMANDS, PRESET, make, project
from tests.survival.store import Store

TRAININGS: Mapping[str, tuple[str, ...]] = {
    "flexrm": ("flexrm.volume", "flexrm.gaussians"),
    "multiview_model": ("multiview.training",),
    "lrm_finetuned": ("finetune.training",),
    "lrm_pretrained": ("pretrain.training",),
    "video_model": ("video.training",),
}
"""Those that read the model of another come before it, so that all read what the one chain made."""
SHARED = {"accumulate": 2, "devices": 2}
EVERY = {"checkpoint_every": 4}


class Ended(NamedTuple):
    code: int
    seconds: float
    last: str
    """line of standard error"""
    left: int
    """processes that outlived it"""


def preset(root: Path, training: str, changes: Mapping[str, Any]) -> str:
    values = yaml.safe_load((root / PRESET).read_text()) | {"name": "spread"}
    for place in TRAININGS[training]:
        section = values
        for name in place.split("."):
            section = section.setdefault(name, {})
        section |= changes
    (root / f"{training}.yaml").write_text(yaml.safe_dump(values))
    return f"{training}.yaml"


def train(root: Path, training: str, changes: Mapping[str, Any], kill: int | None = None) -> Ended:
    """Run one training; with `kill` its rank of that number is killed after the first resume state."""
    part = "flexiview" if training in ("flexrm", "multiview_model") else "chain"
    command = [sys.executable, "-m", "orchestration.cli.main", *COMMANDS[part], "--select", training]
    told = Store(root, preset(root, training, changes)).environment()
    began = time.monotonic()
    output = root / f"{training}.txt"  # a pipe that nobody empties would fill
    with output.open("w") as errors:
        ours = psutil.Popen(command, cwd=root, env=told, stdout=subprocess.DEVNULL, stderr=errors)
    family: list[psutil.Process] = []
    if kill is not None:
        while ours.poll() is None and not list((root / ".work" / training).glob("*/*/state/**/*.ckpt")):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1))
        if ours.poll() is not None:
            raise SystemExit(f"{training} had ended before its rank {kill} could be killed")
        ranks = [child for child in ours.children() if child.cmdline() == ours.cmdline()]
        family = ours.children(recursive=True)
        print(f"{training}: killing rank {kill} of {len(ranks)}", flush=True)
        sorted(ranks, key=lambda process: process.pid)[kill].kill()
        began = time.monotonic()
    ours.wait()
    seconds = time.monotonic() - began
    time.sleep(0.5)
    lines = [line for line in output.read_text().splitlines() if line.strip()] or [""]
    return Ended(ours.returncode, seconds, lines[-1], sum(_lives(process) for process in family))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def states(root: Path, training: str) -> list[int]:
    """Steps of the resume states that are kept."""
    found = (root / ".work" / training).glob("*/*/state/**/*.ckpt")
    return sorted(int("".join(filter(str.isdigit, path.stem)) or 0) for path in found)


def apart(one: Path, two: Path) -> dict[str, float]:
    """Largest relative difference of the curves, and absolute one of values that are below 1, and of the weights."""
    curves = [pl.concat([pl.read_parquet(f) for f in sorted(root.rglob("training.parquet"))]) for root in (one, two)]
    assert curves[0].select("step", "name").equals(curves[1].select("step", "name"))
    a, b = (curve["value"].to_numpy() for curve in curves)
    found = {"curve": float((abs(a - b) / abs(a).clip(1e-3)).max()), "points": float(len(a))}
    weights: list[dict[str, Any]] = []
    for root in (one, two):
        files = sorted(root.rglob("*.safetensors"))
        weights.append({f"{file.relative_to(root)}/{name}": v for file in files for name, v in load_file(file).items()})
    assert weights[0].keys() == weights[1].keys()
    found["weights"] = max(float(abs(value - weights[1][name]).max()) for name, value in weights[0].items())
    found["scale"] = max(float(abs(value).max()) for value in weights[0].values())
    return found


def same_bytes(one: Path, two: Path) -> bool:
    files = [sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) for root in (one, two)]
    return files[0] == files[1] and all((one / file).read_bytes() == (two / file).read_bytes() for file in files[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--beside", type=Path, help="a finished project of the preset spread.yaml")
    parser.add_argument("--trainings", default=",".join(TRAININGS))
    arguments = parser.parse_args()
    chosen = [name for name in TRAININGS if name in arguments.trainings.split(",")]
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        done = arguments.beside or folder / "done"
        if not arguments.beside:
            make(project(done), ["chain", *({"flexrm", "multiview_model"} & set(chosen) and ["flexiview"])])
        roots = {name: folder / name for name in ("one", "two", "killed")}
        for root in roots.values():
            shutil.copytree(done, root, symlinks=True, copy_function=shutil.copy2)
        for training in chosen:
            one = train(roots["one"], training, EVERY)
            two = train(roots["two"], training, SHARED | EVERY)
            cut = train(roots["killed"], training, SHARED | EVERY, kill=random.randrange(2))
            kept = states(roots["killed"], training)
            again = train(roots["killed"], training, SHARED | EVERY)
            outputs = {name: root / "data" / "spread" / training for name, root in roots.items()}
            print(f"{training}: one process {one.code} {one.seconds:.0f} s, two {two.code} {two.seconds:.0f} s")
            print(f"  cut {cut.code} {cut.seconds:.1f} s after the kill, {cut.left} processes left: {cut.last}")
            print(f"  resume states of steps {kept}; again {again.code} {again.seconds:.0f} s {again.last}")
            print(f"  one beside two: {apart(outputs['one'], outputs['two'])}")
            equal = same_bytes(outputs["two"], outputs["killed"])
            print(
                f"  resumed beside undisturbed: {'equal bytes' if equal else apart(outputs['two'], outputs['killed'])}"
            )
            bad += (one.code, two.code, again.code) != (0, 0, 0) or cut.code != 1 or cut.left > 0 or not equal
    return bad


if __name__ == "__main__":
    raise SystemExit(main())
