"""Stable Video Diffusion: preconditioning against the scheduler's definition, clips against the stock pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.config import DenoisingConfig, SamplingConfig, SVDConfig, WanConfig
from models.svd import StableVideo
from models.video import CONFIG, load_video

TINY = SVDConfig.model_validate(
    {
        "family": "svd",
        "size": 32,
        "frames": 8,
        "widths": (32, 64),
        "heads": (2, 4),
        "layers": 1,
        "context": 32,
        "time_width": 32,
        "autoencoder_widths": (32, 32, 64),
        "autoencoder_layers": 1,
        "image_encoder": {"image_size": 224, "patch": 32, "width": 32, "layers": 1, "heads": 2, "hidden": 64},
    }
)


@pytest.fixture(scope="module")
def model() -> StableVideo:
    torch.manual_seed(0)
    return StableVideo(TINY).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(model: StableVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("svd")
    model.save(path)
    return path


@pytest.fixture(scope="module")
def stock(folder: Path) -> StableVideoDiffusionPipeline:
    pipeline = StableVideoDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def told(model: StableVideo, frames: Float[Tensor, "n 3 s s"]) -> dict[str, Tensor]:
    return model.condition(frames, None, frames.new_full((len(frames),), 0.02))


def test_families_are_told_apart_and_old_folders_are_wan() -> None:
    assert CONFIG.validate_python({"size": 32}) == WanConfig(size=32)
    assert isinstance(CONFIG.validate_python({"family": "svd"}), SVDConfig)
    with pytest.raises(ValueError, match="cogvideox"):
        CONFIG.validate_python({"family": "cogvideox"})
    with pytest.raises(ValueError, match="no multiple of 32"):
        SVDConfig.model_validate({"family": "svd", "widths": (48, 64), "heads": (3, 4)})


def test_saved_and_loaded_is_the_same_model(model: StableVideo, folder: Path, tmp_path: Path) -> None:
    loaded = load_video(folder)
    assert loaded.config == TINY
    for (name, mine), (other, read) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(mine, read), name
    loaded.save(tmp_path)
    for file in folder.rglob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / file.relative_to(folder)).read_bytes()


@pytest.mark.parametrize("sigma", [0.002, 0.3, 1.0, 40.0, 700.0])
def test_denoising_is_the_schedulers_definition(model: StableVideo, sigma: float) -> None:
    """v-prediction between the noise levels `sigma` and 0, by a scheduler of diffusers and by plain formulas."""
    double = model.double()
    try:
        frames, noisy = torch.rand(2, 3, 32, 32).double(), sigma * torch.randn(2, *model.latent_shape()).double()
        condition = told(double, frames)
        level = torch.full((2,), sigma, dtype=torch.float64)
        clean = double.denoise(noisy, level, condition)
        velocity = double._network(noisy / (sigma**2 + 1) ** 0.5, level.log() / 4, condition)
    finally:
        model.float()
    plain = noisy / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * velocity
    assert torch.allclose(clean, plain, rtol=1e-9, atol=1e-12)
    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous")
    scheduler.set_timesteps(sigmas=[sigma, 0.0])
    scheduler.scale_model_input(noisy, scheduler.timesteps[0])
    stepped = scheduler.step(velocity, scheduler.timesteps[0], noisy).pred_original_sample
    assert torch.allclose(clean.float(), stepped.float(), rtol=1e-4, atol=1e-5 * max(1, sigma))


def test_the_loss_is_that_of_the_velocity(model: StableVideo) -> None:
    """As an independent reading of EDM has it: mean over clips of |v - v*|^2, all draws from the generator."""
    config = DenoisingConfig.model_validate({"dropout": 0.0})
    clean, frames = torch.randn(4, *model.latent_shape()), torch.rand(4, 3, 32, 32)
    condition = told(model, frames)
    value = model.loss(clean, condition, config, torch.Generator().manual_seed(3))["loss"]
    generator = torch.Generator().manual_seed(3)
    sigma = (0.7 + 1.6 * torch.randn(4, generator=generator)).exp()
    noise = torch.randn(clean.shape, generator=generator)
    s = sigma[:, None, None, None, None]
    velocity = model._network((clean + s * noise) / (s**2 + 1).sqrt(), sigma.log() / 4, condition)
    wanted = (noise - s * clean) / (s**2 + 1).sqrt()  # cos * noise - sin * clean with tan = sigma
    assert torch.allclose(value, (velocity - wanted).square().mean(), rtol=1e-4)


def test_dropout_hides_the_embedding_the_frame_and_both(model: StableVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Tensor] = {}
    monkeypatch.setattr(model, "denoise", lambda noisy, level, condition: seen.update(condition) or noisy)
    n = 4000
    condition = {"first": torch.ones(n, 4, 1, 1), "embedding": torch.ones(n, 2), "told": torch.ones(n, 3)}
    model.loss(torch.zeros(n, 1, 4, 1, 1), condition, DenoisingConfig(dropout=0.1), torch.Generator().manual_seed(0))  # pyright: ignore
    frame, embedding = seen["first"].flatten(1)[:, 0] == 0, seen["embedding"][:, 0] == 0
    assert (frame & embedding).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (frame & ~embedding).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (embedding & ~frame).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (seen["told"] == 1).all()


def test_training_conditions_are_noised_frames_and_say_how_much(model: StableVideo) -> None:
    frames = torch.rand(3, 3, 32, 32)
    config = DenoisingConfig.model_validate({"noised_copies": 64})
    found = model.conditions(frames, torch.empty(0), config, torch.Generator().manual_seed(0))
    strength = found["told"][..., 2]
    assert strength.log().mean() == pytest.approx(-3, abs=0.15)
    assert strength.log().std() == pytest.approx(0.5, abs=0.1)
    assert (found["told"][..., :2] == torch.tensor([6, 127])).all()
    generator = torch.Generator().manual_seed(0)
    again = (-3 + 0.5 * torch.randn(3, 64, generator=generator)).exp()
    grain = torch.randn(3, 64, 3, 32, 32, generator=generator)
    alone = model.condition(frames[1:2], grain[1, 5:6], again[1, 5:6])
    assert torch.allclose(alone["first"][0], found["first"][1, 5], atol=1e-4)
    assert torch.allclose(alone["embedding"][0], found["embedding"][1, 0], atol=1e-5)


@pytest.mark.parametrize("guidance", [(1.0, 1.0), (1.0, 3.0), (2.5, 2.5)])
def test_batched_clips_are_those_of_the_stock_pipeline(
    model: StableVideo, stock: StableVideoDiffusionPipeline, guidance: tuple[float, float]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    settings = SamplingConfig(guidance=guidance, decode_chunk=5, fps=11, motion=60)  # pyright: ignore[reportCallIssue]
    grain, noise = model.draw_noises(torch.Generator().manual_seed(k) for k in range(3))
    first = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    ours = model.sample(first, noise, 4, settings, grain)
    theirs = [
        stock(
            Image.fromarray(image), height=32, width=32, num_frames=8, num_inference_steps=4, decode_chunk_size=5,
            min_guidance_scale=guidance[0], max_guidance_scale=guidance[1], fps=11, motion_bucket_id=60,
            generator=torch.Generator().manual_seed(k), output_type="pt",
        ).frames[0]
        for k, image in enumerate(images)
    ]  # fmt: skip
    error = (ours - torch.stack(theirs)).square().mean()
    assert -10 * torch.log10(error) > 90
    assert ours.std() > 0.03  # there is something to compare


def test_large_images_are_embedded_as_the_stock_pipeline_does(
    model: StableVideo, stock: StableVideoDiffusionPipeline
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    theirs = stock._encode_image(Image.fromarray(image), "cpu", 1, False)[:, 0]  # type: ignore[attr-defined]
    ours = model.embed(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_second_order_sampler_gets_nearer_with_few_steps(model: StableVideo) -> None:
    """To the limit of many small Euler steps, on the same noise."""
    first = torch.rand(2, 3, 32, 32)
    grain, noise = model.draw_noises(torch.Generator().manual_seed(k) for k in range(2))

    def clips(sampler: str, steps: int) -> Tensor:
        settings = SamplingConfig.model_validate({"sampler": sampler})
        return model.sample(first, noise, steps, settings, grain)

    limit = clips("euler", 100)
    errors = {name: (clips(name, 8) - limit).square().mean() for name in ("euler", "dpm++")}
    assert errors["dpm++"] < errors["euler"]


def test_temporal_layers_are_those_over_frames(model: StableVideo) -> None:
    temporal = set(model.temporal())
    assert {"mid_block.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight"} <= temporal
    assert {"down_blocks.0.resnets.0.temporal_res_block.conv1.weight"} <= temporal
    assert {"down_blocks.0.resnets.0.time_mixer.mix_factor", "mid_block.attentions.0.time_mixer.mix_factor"} <= temporal
    rest = {name for name, _ in model.denoiser.named_parameters()} - temporal
    spatial = {name for name in rest if ".transformer_blocks." in name or "spatial_res_block" in name}
    assert len(spatial) > 100
    left = rest - spatial
    assert not [name for name in left if "temporal" in name and ".attn2." not in name and ".norm2." not in name]
    assert all(
        name.split(".")[-2] in ("to_q", "to_k", "to_v", "0") for name in map("{}.weight".format, model.attention())
    )
