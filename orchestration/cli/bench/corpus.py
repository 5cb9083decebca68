"""Do generated clips circle their object? Figures beside rendered truth, and the sheets that an eye can judge.

A sheet shows input, generated clip, the fine-tuned LRM's reconstruction of the same input, and truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import polars as pl

from orchestration import paths, pipeline
from orchestration.cli.bench import corpus_speed
from orchestration.cli.bench.registry import Row
from orchestration.errors import OrbitforgeError
from stages.objects.splits import HELD_OUT, TRAIN

COPIES = {TRAIN: 2, HELD_OUT: 4}
TARGETS = {
    TRAIN: {"first_frame": 24.0, "chroma_slope": 0.8, "anti_cosine": 0.3},
    HELD_OUT: {"pooled": 18.0, "iou": 0.7, "chroma_slope": 0.8, "anti_cosine": 0.3},
}
FEW = (1, 2, 4, 8)
"""Sampling steps, of held-out objects."""
ABOVE_BASE = ("pooled", "iou", "anti_cosine", "chroma_slope")
UNITS = {"first_frame": "dB", "pooled": "dB", "iou": "IoU", "anti_cosine": "cosine", "chroma_slope": "slope"}


def measure(report: Callable[[str], None]) -> list[Row]:
    """Each object of a split as it is, from cameras that no training view has; writes runs/<preset>/<split>.png.

    The peer of `pooled` is a clip that repeats its first frame, that of "beside its base" the model before fine-tuning.
    """
    from models.checkpoints import load
    from models.config import LRMConfig
    from models.lrm import LRM
    from models.video import load_video
    from stages.evaluation.held_out import reconstructed
    from stages.video.figures import clip_figures
    from stages.video.measure import generated, orbits_from_new_cameras
    from stages.video.sheets import save_sheet

    here = pipeline.current()
    home = paths.data() / here.preset.name
    weights = paths.data() / "base_models" / "video"
    for needed in (home / "video_model", home / "lrm_finetuned", weights):
        if not needed.is_dir():
            raise OrbitforgeError(f"{needed} is missing; run `orbitforge run` first")
    model, base = load_video(home / "video_model"), load_video(weights)
    lrm = load(home / "lrm_finetuned", LRMConfig, LRM.from_config)
    objects = here.table("objects")
    rows: list[Row] = []
    for split, copies in COPIES.items():
        chosen = objects.filter(pl.col("split") == split)
        truth, cameras = orbits_from_new_cameras(
            chosen,
            paths.data() / here.preset.source.folder,
            here.preset.rendering,
            frames=model.config.frames,
            copies=copies,
            seed=here.preset.seed,
        )
        began = time.process_time()
        steps, seed = here.preset.corpus.steps, here.preset.seed
        clips = generated(model, truth, steps=steps, seed=seed)
        seconds = time.process_time() - began
        figures = clip_figures(clips, truth)
        sheet = paths.root() / "runs" / here.preset.name / f"{split}.png"
        rebuilt = reconstructed(lrm, truth[::copies, 0], cameras[::copies]).rgb
        save_sheet(sheet, truth[::copies, :1], clips[::copies], rebuilt, truth[::copies])
        report(f"{split}: {len(chosen)} objects, {len(truth)} clips, {sheet.relative_to(paths.root())}")
        for name, unit in UNITS.items():
            target = TARGETS[split].get(name)
            repeated = figures["repeated"] if name == "pooled" else None
            if name == "pooled" and split == TRAIN:
                target = repeated
            rows.append(Row(f"{split}: {name}", unit, figures[name], peer=repeated, target=target, at_least=True))
        before = clip_figures(generated(base, truth, steps=steps, seed=seed), truth)
        for name in ABOVE_BASE:
            work = f"{split}: {name} beside its base"
            rows.append(Row(work, UNITS[name], figures[name], before[name], target=before[name], at_least=True))
        rows.append(Row(f"{split}: sampling", "CPU s a clip", seconds / len(truth)))
        for few in FEW if split == HELD_OUT else ():
            quick = clip_figures(generated(model, truth, steps=few, seed=seed), truth)
            for name in ABOVE_BASE:
                repeated = quick["repeated"] if name == "pooled" else None
                rows.append(Row(f"{split}: {name}, steps: {few}", UNITS[name], quick[name], repeated, at_least=True))
    return rows + corpus_speed.rows(report)
