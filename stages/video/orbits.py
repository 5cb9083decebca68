"""Has fine-tuning made clips orbit? A judge trained on rendered clips says so of clips made before and after it.

judge_orbits(manifest, shards, base, encoder, output, config, *, seed, report)
    -> rows of output/training.parquet: rendered/..., before/..., after/..., judge/...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from models.video import VideoModel, load_video
from stages.objects.splits import TRAIN
from stages.seeds import torch_generator
from stages.video.clips import draw_clips, read_rings
from stages.video.config import VideoFinetuneConfig
from stages.video.judge import Judge, Verdicts
from stages.video.spoils import spoiled


def judge_orbits(
    manifest: Path,
    shards: Path,
    base: Path,
    encoder: Path,
    output: Path,
    config: VideoFinetuneConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Judge clips of `base` and of the model in `output` that begin with the same training views.

    A clip is judged only where its rendered orbit is accepted: what looks alike from all around carries no azimuth.
    `judge/...` tells what the judge accepts of clips of orbits that it was not trained on, whole and spoiled.
    """
    rings = read_rings(pl.read_parquet(manifest), shards, TRAIN)
    model = load_video(output)
    frames = model.config.frames
    report({"doing": "training the judge of orbits"})
    judge, others = trained_judge(encoder, rings, frames, config, seed)
    figures = rates(judge, draw_clips(others, config.judge.tried, frames, _generator(seed, "tried")), seed)
    orbits = draw_clips(rings, config.judge.measured, frames, _generator(seed, "measured"))
    rendered = judge(orbits)
    judged = rendered.accepted
    figures |= {"judge/measured": float(len(orbits)), "judge/judged": float(judged.sum())}
    figures |= orbit_figures("rendered", rendered, judged)
    truth = orbits[judged]
    for when, trained in (("before", load_video(base)), ("after", model)):
        if len(truth):
            report({"doing": f"judging clips {when} fine-tuning"})
            verdicts = judge(clips_from(trained, truth, config, seed))
            figures |= orbit_figures(when, verdicts, torch.ones(len(truth), dtype=torch.bool))
    report({"message": f"{len(truth)} of {len(orbits)} rendered orbits carry an azimuth that the judge can tell"})
    file = output / "training.parquet"
    curve = pl.read_parquet(file)
    rows = [(0 if name.startswith("before/") else config.training.steps, name, v) for name, v in figures.items()]
    pl.concat((curve, pl.DataFrame(rows, schema=curve.schema, orient="row"))).write_parquet(file)


def clips_from(
    model: VideoModel, truth: Float[Tensor, "n f 3 s s"], config: VideoFinetuneConfig, seed: int
) -> Float[Tensor, "n f 3 s s"]:
    """Clips of `model` from the first frame of each of the `truth`, as many at a time as are trained on at a time."""
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    grain, noise = model.draw_noises(torch_generator(seed, "clip", k) for k in range(len(truth)))
    made = []
    for some in torch.arange(len(truth)).split(config.training.part):
        first, its_noise = truth[some, 0].to(model.device), noise[some].to(model.device)
        its_grain = None if grain is None else grain[some].to(model.device)
        made.append(model.sample(first, its_noise, config.sampling_steps, config.sampling, its_grain).cpu())
    return torch.cat(made)


def trained_judge(
    encoder: Path, rings: Tensor, frames: int, config: VideoFinetuneConfig, seed: int
) -> tuple[Judge, Tensor]:
    """A judge, and the rings that it has not seen (all of them where there are too few to keep some back)."""
    order = torch.randperm(len(rings), generator=_generator(seed, "rings"))
    back = len(rings) // 5
    judge = Judge(load(encoder, EncoderConfig, Encoder))
    seen = rings[order[back:]]
    judge.fit(draw_clips(seen, config.judge.clips, frames, _generator(seed, "clips")), config.judge, seed)
    return judge, rings[order[:back]] if back else rings


def rates(judge: Judge, orbits: Float[Tensor, "n f 3 s s"], seed: int) -> dict[str, float]:
    """The share that is accepted of `orbits` and of each way to spoil them."""
    kinds = spoiled(orbits, _generator(seed, "spoiled"))
    return {f"judge/accepted {kind}": float(judge(clips).accepted.float().mean()) for kind, clips in kinds.items()}


def orbit_figures(of: str, verdicts: Verdicts, judged: Bool[Tensor, " n"]) -> dict[str, float]:
    """Means over the clips that are `judged`, called `of`/...; none where there are none.

    accepted: share taken for orbits; orbit, travelled, monotonic, azimuth_error and sameness: see `Verdicts`.
    """
    means = {
        "accepted": verdicts.accepted.float(),
        "orbit": verdicts.orbit,
        "travelled": verdicts.travelled,
        "monotonic": verdicts.monotonic,
        "azimuth_error": verdicts.error,
        "sameness": verdicts.sameness,
    }
    return {f"{of}/{name}": float(values[judged].mean()) for name, values in means.items() if judged.any()}


def _generator(seed: int, name: str) -> torch.Generator:
    return torch_generator(seed, "orbits", name)
