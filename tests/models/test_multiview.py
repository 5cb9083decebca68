"""The multi-view image model: its grid, its noise against diffusers' schedulers, and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints import parameter_count
from models.config import TextToImageConfig
from models.multiview import MultiviewModel, as_cells, as_grid, build_pipeline, load_multiview
from models.multiview_config import BackboneConfig, MultiviewConfig
from models.noising import CLEAN, FLOW, NOISE, VELOCITY, Noising
from models.text_to_image import TextToImage, word_tokenizer

SHAPES = BackboneConfig.model_validate(
    {
        "widths": [32, 64], "layers": 1, "heads": 2, "autoencoder_widths": [32, 32], "autoencoder_layers": 1,
        "text_width": 16, "text_hidden": 16, "text_layers": 1, "text_heads": 2, "tokens": 12, "vocabulary": 1024,
    }
)  # fmt: skip
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def stable_diffusion(prediction: Any = NOISE) -> Any:
    """A pipeline as people fetch them: a KL autoencoder, a diffusion schedule, random weights."""
    torch.manual_seed(0)
    pipeline = build_pipeline(SHAPES)
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False, **BETAS)
    pipeline.register_modules(tokenizer=word_tokenizer(["a red block"], 12), scheduler=scheduler)
    return pipeline


def own_pipeline(size: int = 16) -> Any:
    """A pipeline as `orbitforge base` makes them: flow matching, a small autoencoder."""
    torch.manual_seed(0)
    config = TextToImageConfig.model_validate(
        {"size": size, "latent_channels": 4, "autoencoder_width": 16, "widths": [8, 16], "text_width": 16}
    )
    return TextToImage(config, word_tokenizer(["a red block"], 24)).eval().pipeline()


def model(pipeline: Any, **config: Any) -> MultiviewModel:
    return MultiviewModel.begin(pipeline, MultiviewConfig.model_validate({"size": 16, **config})).eval()


def sampled(some: MultiviewModel, steps: int = 2) -> torch.Tensor:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, *some.latent_shape(), generator=torch.Generator().manual_seed(2))
    return some.sample(pictures, ["a red block", ""], noise, steps)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_cells_of_a_grid_stand_row_by_row(rows: int, columns: int, side: int) -> None:
    cells = torch.rand(2, rows * columns, 3, side, side + 1)
    grid = as_grid(cells, columns)
    assert torch.equal(as_cells(grid, rows * columns, columns), cells)
    last = grid[:, :, (rows - 1) * side :, (columns - 1) * (side + 1) :]
    assert torch.equal(last, cells[:, -1])
    if columns > 1:
        assert torch.equal(grid[:, :, :side, side + 1 : 2 * (side + 1)], cells[:, 1])


@settings(deadline=None)
@given(st.sampled_from([FLOW, VELOCITY, NOISE, CLEAN]), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_what_is_mixed_is_found_again(kind: str, level: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 3, 2, 4, 5, 5, dtype=torch.float64, generator=generator)
    scheduler = {"prediction_type": kind, "num_train_timesteps": 1000, **BETAS}
    noising = Noising(CLEAN, 1000) if kind == CLEAN else Noising.of(scheduler)
    levels = torch.full((3,), level, dtype=torch.float64)
    noisy = noising.mixed(clean, noise, levels)
    found = noising.parts(noisy, noising.wanted(clean, noise, levels), levels)
    torch.testing.assert_close(found[0], clean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found[1], noise, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [NOISE, VELOCITY])
def test_steps_are_those_of_diffusers_schedulers(kind: Any) -> None:
    theirs: Any = DDIMScheduler(
        prediction_type=kind, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing", **BETAS
    )
    theirs.set_timesteps(4)
    noising = Noising.of(theirs.config)
    x = torch.randn(1, 2, 4, 3, 3)
    y, levels = x, torch.linspace(1, 0, 5)
    for step, time in enumerate(theirs.timesteps):
        now, then = levels[step].view(1), levels[step + 1].view(1)
        assert float(noising.time(now)) == float(time)
        said = torch.sin(3 * x)
        x = noising.mixed(*noising.parts(x, said, now), then)
        y = theirs.step(torch.sin(3 * y), int(time), y).prev_sample
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_steps_of_flow_matching_are_those_of_euler() -> None:
    theirs: Any = FlowMatchEulerDiscreteScheduler(shift=1.0)
    theirs.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    noising = Noising.of({"prediction_type": FLOW, "num_train_timesteps": 1000})
    x = y = torch.randn(1, 2, 4, 3, 3)
    for time in theirs.timesteps:
        now, then = (time / 1000).view(1), (time / 1000 - 0.25).view(1)
        assert float(noising.time(now)) == pytest.approx(float(time))
        x = noising.mixed(*noising.parts(x, torch.sin(3 * x), now), then)
        y = theirs.step(torch.sin(3 * y), time, y).prev_sample
    torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_a_schedule_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="prediction_type 'sample'; flow_prediction, v_prediction and epsilon"):
        Noising.of({"prediction_type": "sample", "num_train_timesteps": 10})


@pytest.mark.parametrize("pipeline", [stable_diffusion, lambda: stable_diffusion(VELOCITY), own_pipeline])
def test_pipelines_of_the_family_begin_where_they_were(pipeline: Any) -> None:
    """The wider first layer says what the old one said: picture and places count nothing yet."""
    before = pipeline()
    some = model(pipeline())
    noisy = torch.randn(1, *some.latent_shape())
    tokens = some.tokens([""])
    level = torch.tensor([0.5])
    told = (noisy, level, torch.randn(1, *noisy.shape[2:]), tokens)
    text = some.text_encoder(tokens, return_dict=False)[0]
    with torch.no_grad():
        alone = before.unet(as_grid(noisy, 2), some.noising.time(level), text, return_dict=False)[0]
        torch.testing.assert_close(some.predict(*told), as_cells(alone, 4, 2), atol=1e-5, rtol=1e-5)
        views = sampled(some)
    assert views.shape == (2, 4, 3, 16, 16)
    assert views.min() >= 0
    assert views.max() <= 1


def test_the_change_begins_with_copies_of_the_picture() -> None:
    some = model(own_pipeline(), objective="change", elevations=[-10, 0, 10], columns=1)
    pictures = torch.rand(2, 3, 16, 16)
    noise = torch.randn(2, *some.latent_shape())
    with torch.no_grad():
        copies = some.decode(some.encode(pictures)).clamp(0, 1)[:, None].expand(-1, 3, -1, -1, -1)
    torch.testing.assert_close(some.sample(pictures, ["", ""], noise, 2), copies, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pipeline", [stable_diffusion, own_pipeline])
def test_a_folder_is_enough_to_load_it(pipeline: Any, tmp_path: Path) -> None:
    source, copies = tmp_path / "source", [tmp_path / name for name in ("one", "two")]
    pipeline().save_pretrained(source)
    some = model(type(pipeline()).from_pretrained(str(source), safety_checker=None))
    with torch.no_grad():
        some.unet.conv_in.weight.normal_(generator=torch.Generator().manual_seed(3))
    for copy in copies:
        some.save(copy)
    files = sorted(file.relative_to(copies[0]) for file in copies[0].rglob("*") if file.is_file())
    assert {file.suffix for file in files} <= {".json", ".safetensors"}
    for file in files:
        content = (copies[0] / file).read_bytes()
        assert content == (copies[1] / file).read_bytes(), file
        assert file.suffix != ".json" or str(tmp_path).encode() not in content, file
    again = load_multiview(copies[0])
    assert again.config == some.config
    assert torch.equal(sampled(again), sampled(some))


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no model"):
        load_multiview(tmp_path)
    some = model(own_pipeline())
    some.save(tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no whole multi-view model"):
        load_multiview(tmp_path)
    with pytest.raises(ValueError, match="takes 4 channels, a cell of the grid has 14"):
        MultiviewModel(own_pipeline(), MultiviewConfig(size=16))  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="18 px cannot be halved 2 times"):
        model(own_pipeline(), size=18)
    for elevations, columns, told in (([0, 1, 2], 2, "fill no grid of 2 columns"), ([1, 1], 2, "repeat")):
        with pytest.raises(ValueError, match=told):
            model(own_pipeline(), elevations=elevations, columns=columns)


def test_the_default_shapes_are_those_of_stable_diffusion() -> None:
    """859,520,964 weights of the UNet, 83,653,863 of the autoencoder and 123,060,480 of CLIP's text encoder, and the
    first layer's for the picture's 4 channels and the 6 of the places."""

    def build() -> MultiviewModel:
        pipeline = build_pipeline(BackboneConfig.model_validate({}))
        return MultiviewModel.begin(pipeline, MultiviewConfig(size=512))  # pyright: ignore[reportCallIssue]

    assert parameter_count(build) == 859_520_964 + 83_653_863 + 123_060_480 + 320 * 9 * (4 + 6)
