"""Candidate views of objects: of each prompt a first picture, of each picture a pool of views.

    Candidates(multiview, video, config, corpus, rendering)(pictures, ids, captions, seed) -> a Pool for each picture
    candidates_shard(prompts, meshes, multiview, video, output, config, corpus, rendering, *, seed, report, ...)
        -> output/candidates.tar, output/quarantine.parquet (id, reason)

The multi-view model draws views at its elevations and the picture's azimuth; the one at the orbit's elevation is the
video model's first frame, and stands in the pool twice: once among each model's views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import Camera
from models.multiview import load_multiview
from stages.candidates.config import CandidatesConfig
from stages.candidates.orbit import Orbit
from stages.candidates.pool import IMAGE, VIDEO, Pool
from stages.corpus.config import CorpusConfig
from stages.corpus.first_frames import FirstFrames, Frame
from stages.corpus.imported import is_clip
from stages.errors import InputError
from stages.rendering.config import RenderingConfig
from stages.seeds import torch_generator
from stages.shards import ShardWriter, composite

QUARANTINE = {"id": pl.String, "reason": pl.String}
IMPORTED = "a clip from elsewhere: it has views, no picture to start from"
PROMPT = "prompt"
"""Of a pool's `meta`: the id of its prompt, which has several pools where `samples` is above 1."""


class Candidates:
    """The two models, loaded once. Raises InputError for models that do not fit each other or the configuration."""

    def __init__(
        self, multiview: Path, video: Path, config: CandidatesConfig, corpus: CorpusConfig, rendering: RenderingConfig
    ) -> None:
        self.config, self.corpus = config, corpus
        self.multiview = load_multiview(multiview).to("cuda" if torch.cuda.is_available() else "cpu")
        self.orbit = Orbit(video, config.views)
        self.size = self.multiview.config.size
        elevations = self.multiview.config.elevations
        if self.orbit.size != self.size:
            raise InputError(
                f"{multiview} makes views of {self.size} px, {video} clips of {self.orbit.size} px; match the preset"
            )
        if config.elevation not in elevations:
            raise InputError(
                f"candidates.elevation {config.elevation:g} is none of {list(elevations)}, which {multiview} draws"
            )
        self.shared = elevations.index(config.elevation)
        """The view that the orbit starts from."""
        self.cameras, self.elevations, self.azimuths = _cameras(elevations, config, rendering)

    def __call__(
        self,
        pictures: Float[Tensor, "n 3 s s"],
        ids: Sequence[str],
        captions: Sequence[str],
        seed: int,
    ) -> list[Pool]:
        """Pools of pictures on white in 0..1; azimuth 0 is where the picture was taken from. An empty caption says
        nothing. A pool depends on (seed, id, picture, caption) and, through floating point, on its neighbours.

        Raises InputError for pictures of another size.
        """
        if tuple(pictures.shape[1:]) != (3, self.size, self.size):
            raise InputError(
                f"pictures of {' x '.join(map(str, pictures.shape[1:]))}: the models take 3 x {self.size} x {self.size}"
            )
        if not len(ids):
            return []
        shape = self.multiview.latent_shape()
        noise = torch.stack([torch.randn(shape, generator=torch_generator(seed, id_, "views")) for id_ in ids])
        device = self.multiview.device
        views = self.multiview.sample(pictures.to(device), list(captions), noise.to(device), self.config.steps).cpu()
        first = views[:, self.shared]
        clips = self.orbit(first, list(ids), self.corpus.steps, self.corpus.sampling, seed)
        count = views.shape[1]
        sources = (IMAGE,) * count + (VIDEO,) * self.config.views
        clip = tuple(range(count, count + self.config.views))
        facts = {"elevations": self.elevations, "azimuths": self.azimuths, "seed": seed}
        return [
            Pool(id_, torch.cat(parts), self.cameras, sources, clip, dict(facts))
            for id_, *parts in zip(ids, views, clips, strict=True)
        ]


def candidates_shard(
    prompts: pl.DataFrame,
    meshes: Path,
    multiview: Path,
    video: Path,
    output: Path,
    config: CandidatesConfig,
    corpus: CorpusConfig,
    rendering: RenderingConfig,
    *,
    seed: int,
    report: Callable[[dict[str, Any]], None],
    versions: Mapping[str, str | None] | None = None,
    text_to_image: Path | None = None,
) -> None:
    """Pools of the first `config.prompts` rows of `prompts` (their `file` is below `meshes`), `config.samples` each.

    First pictures are those that the corpus would begin with, see `FirstFrames`; `text_to_image` is the pipeline that
    draws them where `corpus.text` names no other. A row that gives no pool is quarantined with the reason: no first
    picture, numbers that are not finite, a clip from elsewhere, or not asked for. `versions` of the two models are
    stored with every pool.
    """
    torch.set_num_threads(1)
    candidates = Candidates(multiview, video, config, corpus, rendering)
    rendering = rendering.model_copy(update={"size": candidates.size, "supersampling": corpus.supersampling})
    frames = FirstFrames(meshes, text_to_image, corpus, rendering, seed)
    rows = prompts.sort("id").to_dicts()
    quarantine = {row["id"]: IMPORTED for row in rows if is_clip(row)}
    drawn = [row for row in rows if not is_clip(row)]
    if config.prompts is not None:
        reason = f"not asked for: candidates.prompts is {config.prompts}"
        quarantine |= {row["id"]: reason for row in drawn[config.prompts :]}
        drawn = drawn[: config.prompts]
    how = {
        "views": {"steps": config.steps, "model": (versions or {}).get("multiview_model")},
        "orbit": {
            **corpus.sampling.model_dump(mode="json"),
            "steps": corpus.steps,
            "passes": candidates.orbit.passes,
            "model": (versions or {}).get("video_model"),
        },
    }
    with ShardWriter(output / "candidates.tar") as shard:
        for start in range(0, len(drawn), config.batch):
            batch = drawn[start : start + config.batch]
            found = list(zip(batch, frames.draw(batch), strict=True))
            quarantine |= {row["id"]: frame for row, frame in found if isinstance(frame, str)}
            usable = [(row, frame) for row, frame in found if isinstance(frame, Frame)]
            for sample in range(config.samples):
                for pool in _pools(candidates, usable, sample, seed, rendering, how):
                    if torch.isfinite(pool.views).all():
                        shard.add(pool.sample())
                    else:
                        quarantine[pool.id] = f"{pool.id} holds numbers that are not finite"
            report({"step": start + len(batch), "of": len(drawn)})
    table = pl.DataFrame(sorted(quarantine.items()), schema=QUARANTINE, orient="row")
    table.write_parquet(output / "quarantine.parquet")


def pool_id(prompt: str, sample: int) -> str:
    """The first pool of a prompt goes by the prompt's id, further ones by `<prompt>-1`, `<prompt>-2`, ..."""
    return f"{prompt}-{sample}" if sample else prompt


def _pools(
    candidates: Candidates,
    usable: list[tuple[dict[str, Any], Frame]],
    sample: int,
    seed: int,
    rendering: RenderingConfig,
    how: dict[str, Any],
) -> list[Pool]:
    if not usable:
        return []
    pictures = torch.from_numpy(np.concatenate([composite(frame.rgba) for _, frame in usable]))
    ids = [pool_id(row["id"], sample) for row, _ in usable]
    pools = candidates(pictures, ids, [frame.text for _, frame in usable], seed)
    return [
        replace(pool, meta={**pool.meta, **_facts(row, frame, rendering), "sampling": how})
        for pool, (row, frame) in zip(pools, usable, strict=True)
    ]


def _facts(row: dict[str, Any], frame: Frame, rendering: RenderingConfig) -> dict[str, Any]:
    return {
        PROMPT: row["id"],
        "radius": rendering.radius,
        "caption": frame.text,
        "licence": row["licence"],
        "creator": row["creator"],
        "object": row["object"],
        "first_frame": frame.how,
        "text_to_image": frame.model,
        "split": "synthetic",
        "parents": [row["md5"]] if row["md5"] else [],
    }


def _cameras(
    elevations: tuple[float, ...], config: CandidatesConfig, rendering: RenderingConfig
) -> tuple[Camera, list[float], list[float]]:
    """Of the views of a pool, as they are asked for, with their elevations and azimuths in degrees."""
    turns = [360 / config.views * number for number in range(config.views)]
    heights = [*elevations, *[config.elevation] * config.views]
    azimuths = [*[0.0] * len(elevations), *turns]
    numbers = [
        Camera.orbit(1, height, rendering.radius, rendering.focal, azimuth=turn).numbers()
        for height, turn in zip(heights, azimuths, strict=True)
    ]
    return Camera.from_numbers(torch.cat(numbers)), heights, azimuths
