"""Clips per second of the corpus stage on two cores, beside a plain loop over the stock diffusers pipeline.

Same weights (Stable Video Diffusion's classes at small width, of random values), first frames, steps, guidance and
seeds. Ours is what a user runs: `map_shards` with two workers over `generate_shard`, pictures written. The plain loop
makes a clip at a time in one process and keeps its frames in memory; it has one thread or two, whichever is faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError

VIDEO = {
    "family": "svd",
    "size": 32,
    "frames": 8,
    "widths": (32, 64, 96),
    "heads": (2, 4, 6),
    "layers": 1,
    "context": 64,
    "time_width": 32,
    "autoencoder_widths": (32, 32, 64),
    "autoencoder_layers": 1,
    "image_encoder": {"image_size": 224, "patch": 32, "width": 64, "layers": 2, "heads": 2, "hidden": 128},
}
STEPS, GUIDANCE = 10, (1.0, 3.0)
SHARDS, CLIPS, BATCH = 4, 12, 6  # 2 pay Python for too little, 12 leave the cache of a core
ROUNDS = 3
FASTER, SAME, MEMORY = 2.0, 40.0, 1.5
SEED = 0


def rows(report: Callable[[str], None]) -> list[Row]:
    """Clips per second, CPU seconds a clip, PSNR between both sides' frames, and peak memory (PSS of all processes)."""
    with tempfile.TemporaryDirectory(prefix="orbitforge-") as scratch:
        home = Path(scratch)
        prepare(home)
        ours: list[dict[str, float]] = []
        plain: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for turn in range(ROUNDS):  # in turn, so that a busy machine hinders all alike
            report(f"sampling speed: round {turn + 1} of {ROUNDS}, {SHARDS * CLIPS} clips on each side")
            ours.append(_apart("ours", home, 1))
            for threads in plain:
                plain[threads].append(_apart("plain", home, threads))
        best = max(plain, key=lambda threads: median(run["rate"] for run in plain[threads]))
        rate, peer = (median(run["rate"] for run in runs) for runs in (ours, plain[best]))
        used, spent = (median(run["cpu"] for run in runs) for runs in (ours, plain[best]))
        memory, theirs = (median(run["mb"] for run in runs) for runs in (ours, plain[best]))
        decibels, spread = compared(home)
        report(f"the plain loop is faster with {best} thread{'s'[: best - 1]}; its pixels deviate by {spread:.2f}")
    if spread < 0.02:
        raise OrbitforgeError(f"the plain loop's clips are blank (pixels deviate by {spread:.3f}); nothing is compared")
    work = f"{STEPS} steps, guidance {GUIDANCE[0]:g} to {GUIDANCE[1]:g}, {VIDEO['frames']} frames of {VIDEO['size']} px"
    return [
        Row(f"sampling on two cores: {work}", "clips/s", rate, peer, FASTER * peer, at_least=True),
        Row("sampling: the same in CPU time", "CPU s a clip", used, spent),
        Row("sampling: PSNR between both sides' frames", "dB", decibels, target=SAME, at_least=True),
        Row("sampling: peak memory, all processes", "MB", memory, theirs, MEMORY * theirs),
    ]


def prepare(home: Path) -> None:
    """A model folder, meshes, and the prompts of all shards below `home`."""
    import polars as pl
    import torch
    import trimesh

    from models.config import SVDConfig
    from models.video import build_video

    torch.manual_seed(SEED)
    build_video(SVDConfig.model_validate(VIDEO)).save(home / "model")
    for number, sides in enumerate(((1, 2, 3), (2, 1, 1), (1, 1, 2))):
        mesh = trimesh.creation.box(sides)
        mesh.visual.vertex_colors = [[40 * k, 200 - 20 * k, 60 + 20 * k, 255] for k in range(len(mesh.vertices))]  # pyright: ignore
        mesh.export(home / f"{number}.glb")
    facts = {"text": "a box", "licence": "CC0-1.0", "creator": "bench", "object": "box", "md5": ""}
    prompts = [
        {"id": f"{k:03d}", "shard": f"{k // CLIPS}", "file": f"{k % 3}.glb", "seed": k, **facts}
        for k in range(SHARDS * CLIPS)
    ]
    pl.DataFrame(prompts).write_parquet(home / "prompts.parquet")


def settings() -> tuple[Any, Any]:
    """Of the corpus and of the renderer."""
    from stages.corpus.config import CorpusConfig
    from stages.rendering.config import RenderingConfig

    sampling = {"guidance": GUIDANCE}
    corpus = CorpusConfig.model_validate({"steps": STEPS, "batch": BATCH, "supersampling": 2, "sampling": sampling})
    return corpus, RenderingConfig.model_validate({"size": VIDEO["size"]})


def shard(item: tuple[str, str], report: Callable[[dict[str, Any]], None]) -> tuple[float, float, float]:
    """One shard of ours: when it began and ended, and its CPU seconds. Shard "warm" is a single clip."""
    import polars as pl

    from stages.corpus.generate import generate_shard

    home, name = Path(item[0]), item[1]
    table = pl.read_parquet(home / "prompts.parquet")
    table = table.head(1) if name.startswith("warm") else table.filter(pl.col("shard") == name)
    output = home / "ours" / name
    output.mkdir(parents=True, exist_ok=True)
    began, used = time.time(), time.process_time()
    generate_shard(table, home, home / "model", output, *settings(), seed=SEED, report=report)
    return began, time.time(), time.process_time() - used


def ours_apart(home: Path) -> dict[str, float]:
    """Shards by two workers, each of which made a clip before."""
    from orchestration.resources.engines.config import EngineConfig
    from orchestration.resources.shards import map_shards

    names = ["warm0", "warm1", *map(str, range(SHARDS))]
    times: list[tuple[float, float, float]] = []
    for (_, name), result in map_shards(
        shard, [(str(home), name) for name in names], EngineConfig.model_validate({"workers": 2}), models=True
    ):
        if isinstance(result, Exception):
            raise result
        if not name.startswith("warm"):
            times.append(result)
    seconds = max(end for _, end, _ in times) - min(began for began, _, _ in times)
    return {"rate": SHARDS * CLIPS / seconds, "cpu": sum(used for _, _, used in times) / (SHARDS * CLIPS)}


def plain_apart(home: Path, threads: int) -> dict[str, float]:
    """The loop that anyone would write; loading and a first clip are not counted, nor is drawing the first frames."""
    import numpy as np
    import polars as pl
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from PIL import Image

    from stages.corpus.first_frames import first_frame
    from stages.seeds import torch_generator
    from stages.shards import composite

    torch.set_num_threads(threads)
    pipeline = StableVideoDiffusionPipeline.from_pretrained(home / "model", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    corpus, rendering = settings()
    rendering = rendering.model_copy(update={"supersampling": corpus.supersampling})
    rows = pl.read_parquet(home / "prompts.parquet").sort("id").to_dicts()
    drawn = [composite(first_frame(row, home, corpus, rendering, SEED))[0].transpose(1, 2, 0) for row in rows]
    images = [Image.fromarray((frame * 255 + 0.5).astype(np.uint8)) for frame in drawn]

    def clip(row: dict[str, Any], image: Image.Image) -> Any:
        return pipeline(
            image,
            height=VIDEO["size"],
            width=VIDEO["size"],
            num_frames=VIDEO["frames"],
            num_inference_steps=STEPS,
            min_guidance_scale=GUIDANCE[0],
            max_guidance_scale=GUIDANCE[1],
            generator=torch_generator(SEED, row["id"], "noise"),
            output_type="np",
        ).frames[0]  # type: ignore[union-attr]

    clip(rows[0], images[0])
    began, used = time.time(), time.process_time()
    clips = [clip(row, image) for row, image in zip(rows, images, strict=True)]
    seconds, used = time.time() - began, time.process_time() - used
    np.save(home / "plain.npy", np.stack(clips))
    return {"rate": len(clips) / seconds, "cpu": used / len(clips)}


def compared(home: Path) -> tuple[float, float]:
    """(PSNR of our stored pictures against the plain loop's frames in dB, deviation of the latter)."""
    import numpy as np

    from stages.shards import read_shard

    plain = np.load(home / "plain.npy")
    samples = [sample for name in range(SHARDS) for sample in read_shard(home / "ours" / str(name) / "clips.tar")]
    views = np.stack([sample.views[..., :3] for sample in sorted(samples, key=lambda sample: sample.id)]) / 255
    return float(-10 * np.log10(((views - plain) ** 2).mean())), float(plain.std())


def print_apart(side: str, home: str, threads: str) -> None:
    """What the fresh process runs."""
    made = ours_apart(Path(home)) if side == "ours" else plain_apart(Path(home), int(threads))
    print(json.dumps(made))


def _apart(side: str, home: Path, threads: int) -> dict[str, float]:
    """One side in a fresh process, and the peak of its memory with that of its children."""
    import psutil

    call = f"corpus_speed.print_apart({side!r}, {str(home)!r}, '{threads}')"
    code = f"from orchestration.cli.bench import corpus_speed; {call}"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _memory(psutil.Process(process.pid)))
        time.sleep(0.5)
    told, errors = process.communicate()
    if process.returncode:
        raise OrbitforgeError(f"{side} failed: {errors.strip()[-500:]}")
    return json.loads(told.splitlines()[-1]) | {"mb": peak}


def _memory(process: Any) -> float:
    """MB of a process and its children, each shared page counted once (PSS)."""
    import psutil

    total = 0.0
    try:
        for each in (process, *process.children(recursive=True)):
            total += getattr(each.memory_full_info(), "pss", 0) / 2**20
    except psutil.Error:  # one of them just ended
        return 0.0
    return total
