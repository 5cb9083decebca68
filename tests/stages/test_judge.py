"""The judge of orbits: trained on rendered clips, it tells azimuths, and turns away what does not go round."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.objects.splits import HELD_OUT, TRAIN
from stages.rendering.config import RenderingConfig
from stages.video.config import JudgeConfig
from stages.video.judge import Judge, Verdicts, verdicts
from stages.video.measure import orbits_from_new_cameras
from stages.video.orbits import orbit_figures
from stages.video.spoils import ORBIT, moved, spoiled

FRAMES = 8
RENDERING = RenderingConfig(size=32, supersampling=2)


def rendered(sample_data: Path, split: str, copies: int, count: int) -> torch.Tensor:
    source = sample_data / "source"
    objects = pl.read_parquet(source / "objects.parquet").filter(pl.col("split") == split).sort("md5").head(count)
    return orbits_from_new_cameras(objects, source, RENDERING, frames=FRAMES, copies=copies, seed=1)[0]


@pytest.fixture(scope="module")
def judge(sample_data: Path) -> Judge:
    made = Judge(load(sample_data / "base_models" / "encoder", EncoderConfig, Encoder))
    made.fit(rendered(sample_data, TRAIN, copies=4, count=60), JudgeConfig(steps=400), seed=0)
    return made


def test_objects_of_other_makers_are_judged_and_what_does_not_orbit_is_turned_away(
    judge: Judge, sample_data: Path
) -> None:
    orbits = rendered(sample_data, HELD_OUT, copies=4, count=20)
    found = {name: judge(clips) for name, clips in spoiled(orbits, torch.Generator().manual_seed(0)).items()}
    shares = {name: float(verdict.accepted.float().mean()) for name, verdict in found.items()}
    taken = found[ORBIT].accepted
    assert shares.pop(ORBIT) > 0.05  # many look much alike from all around
    assert max(shares.values()) < 0.07
    assert shares["frozen"] == shares["pan"] == 0
    assert found[ORBIT].error[taken].mean() < 35  # chance: 90
    assert found[ORBIT].travelled[taken].mean() > 300
    assert found["reversed"].travelled[taken].mean() < -300
    assert found["frozen"].travelled.abs().mean() < 90


def test_a_judge_repeats_to_the_bit_and_leaves_the_global_random_state_alone(judge: Judge) -> None:
    clips = torch.rand(6, FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    twins = [Judge(judge.encoder) for _ in range(2)]
    torch.set_rng_state(state)
    for twin in twins:
        twin.fit(clips, JudgeConfig(steps=5), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(twins[0](clips).orbit, twins[1](clips).orbit)


def relative(azimuth: torch.Tensor) -> torch.Tensor:
    difference = azimuth[:, None] - azimuth[:, :, None]
    return torch.polar(torch.ones_like(difference), difference)


def judged(azimuth: list[float]) -> Verdicts:
    radians = torch.tensor([azimuth]).deg2rad()
    return verdicts(relative(radians), torch.ones(1, len(azimuth), 4))


@given(st.lists(st.floats(-180, 180, width=32), min_size=3, max_size=16))
def test_azimuths_follow_from_what_lies_between_frames(azimuth: list[float]) -> None:
    found = judged(azimuth).azimuth[0]
    apart = torch.remainder(found - torch.tensor(azimuth) + azimuth[0] + 180, 360) - 180
    assert apart.abs().max() < 0.5


@pytest.mark.parametrize("frames", [8, 16])
def test_a_perfect_orbit_a_reversed_one_and_a_frozen_clip(frames: int) -> None:
    step = 360 / frames
    orbit = judged([step * k for k in range(frames)])
    assert orbit.accepted.all()
    assert orbit.orbit.item() == pytest.approx(1 + 1 / (frames - 1), abs=1e-4)
    assert orbit.travelled.item() == pytest.approx(360, abs=0.1)
    assert orbit.monotonic.item() == 1
    assert orbit.error.item() == pytest.approx(0, abs=0.1)
    backwards = judged([-step * k for k in range(frames)])
    assert not backwards.accepted.any()
    assert backwards.travelled.item() == pytest.approx(-360, abs=0.1)
    assert backwards.monotonic.item() == 0
    frozen = judged([0.0] * frames)
    assert not frozen.accepted.any()
    assert frozen.travelled.item() == pytest.approx(0, abs=0.1)


def test_figures_are_of_the_judged_clips_alone() -> None:
    both = [torch.cat(pair) for pair in zip(judged([0.0, 90, 180, 270]), judged([0.0] * 4), strict=True)]
    figures = orbit_figures("after", Verdicts(*both), torch.tensor([True, False]))
    assert figures["after/accepted"] == 1
    assert figures["after/travelled"] == pytest.approx(360, abs=0.1)
    assert orbit_figures("after", Verdicts(*both), torch.tensor([False, False])) == {}


def test_frames_move_the_way_they_are_told() -> None:
    clip = torch.ones(1, 1, 3, 33, 33)
    clip[..., 16, 16] = 0

    def dark(moved_clip: torch.Tensor) -> tuple[int, int]:
        where = int(moved_clip[0, 0, 0].argmin())
        return where // 33, where % 33

    assert dark(moved(clip)) == (16, 16)
    assert dark(moved(clip, across=10 * 2 / 33)) == (16, 26)
    assert dark(moved(clip, up=10 * 2 / 33)) == (6, 16)
    clip[..., 16, 16], clip[..., 16, 20] = 1, 0
    assert dark(moved(clip, roll=math.pi / 2)) in ((12, 16), (20, 16))
    assert dark(moved(clip, scale=2.0)) == (16, 24)
