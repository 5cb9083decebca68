"""The Wan family: shapes, conditions, and what its parts promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.config import WanConfig
from models.video import load_video
from models.wan import WanVideo, orbit_positions, shifted

CONFIG = WanConfig(width=32, heads=2, layers=1, autoencoder_width=16, autoencoder_blocks=1)


@pytest.fixture(scope="module")
def model() -> WanVideo:
    torch.manual_seed(0)
    return WanVideo(CONFIG).eval()


def test_latents_and_frames_keep_their_order(model: WanVideo) -> None:
    frames = torch.rand(2, 8, 3, 32, 32)
    latents = model.encode(frames)
    assert latents.shape == (2, *model.latent_shape())
    assert torch.allclose(model.encode(frames[1:, 3:4])[0, 0], latents[1, 3], atol=1e-5)
    assert model.decode(latents).shape == frames.shape


def test_calibrated_latents_have_unit_variance() -> None:
    torch.manual_seed(0)
    model = WanVideo(CONFIG)
    frames = torch.rand(64, 3, 32, 32)
    model.calibrate(frames)
    latents = model.encode(frames[:, None]).transpose(0, 2).flatten(1)
    assert torch.allclose(latents.mean(1), torch.zeros(16), atol=1e-4)
    assert torch.allclose(latents.std(1), torch.ones(16), atol=1e-3)


def test_a_clip_depends_on_its_own_frame_and_noise_alone(model: WanVideo) -> None:
    first, noise = torch.rand(3, 3, 32, 32), torch.randn(3, *model.latent_shape())
    together = model.sample(first, noise, steps=2)
    alone = model.sample(first[1:2], noise[1:2], steps=2)
    assert together.shape == (3, 8, 3, 32, 32)
    assert torch.allclose(together[1], alone[0], atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_every_frame_knows_where_it_stands() -> None:
    positions = orbit_positions(8, 4)
    frames = positions.transpose(0, 1).flatten(1)
    assert torch.pdist(frames).min() > 0.5
    assert positions[2].flatten(1).any(1).tolist() == [True] + [False] * 7  # the first frame is marked


def test_noise_levels_move_up_and_keep_their_ends() -> None:
    levels = shifted(torch.tensor([0.0, 0.5, 1.0]), 5.0)
    assert torch.allclose(levels, torch.tensor([0.0, 5 / 6, 1.0]))


def test_saved_and_loaded_is_the_same_model(model: WanVideo, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = load_video(tmp_path)
    first, noise = torch.rand(1, 3, 32, 32), torch.randn(1, *model.latent_shape())
    assert torch.equal(loaded.sample(first, noise, 1), model.sample(first, noise, 1))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of latent_patch"):
        WanConfig(size=36)


def test_it_can_be_built_on_the_meta_device_after_transformers_has_replaced_linspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loading a model of transformers can leave torch's list of device-bound constructors without linspace."""
    constructors = torch.utils._device._device_constructors() - {torch.linspace}
    monkeypatch.setattr(torch.utils._device, "_device_constructors", lambda: constructors)
    with torch.device("meta"):
        assert WanVideo(WanConfig()).positions.is_meta
