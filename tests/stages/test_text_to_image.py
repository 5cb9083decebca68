"""Pictures from text: the base model that ships, how any pipeline is asked, and what is taken of what it draws."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.base.config import TextToImageTrainingConfig
from stages.base.text_to_image import train_text_to_image
from stages.corpus.config import CorpusConfig, TextToImageUse
from stages.corpus.first_frames import DRAWN, RENDERED, FirstFrames, Frame
from stages.corpus.framing import UnusableError, framed
from stages.corpus.text_to_image import Painter, find_pipeline, folder_version
from stages.errors import InputError
from stages.rendering.config import RenderingConfig
from tests.stages.blocks import write_blocks

SIZE = 16
STEPS = {"steps": 2, "batch": 4, "learning_rate": 1e-3}
TRAINING = TextToImageTrainingConfig.model_validate(
    {
        "model": {"size": SIZE, "latent_channels": 4, "autoencoder_width": 16, "widths": [8, 16], "text_width": 16},
        "rendering": {"size": SIZE, "supersampling": 1, "views": 2, "variants": 2, "invented": 3},
        "autoencoder": STEPS,
        "denoiser": STEPS,
    }
)
USE = TextToImageUse.model_validate({"steps": 2})
RENDERING = RenderingConfig(size=SIZE, supersampling=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Meshes, their table, and a pipeline that was trained for two steps."""
    home = tmp_path_factory.mktemp("text")
    objects = write_blocks(home, train=2, validation=1)
    objects.write_parquet(home / "objects.parquet")
    for name in ("pipeline", "scratch"):
        (home / name).mkdir()
    train_text_to_image(objects, home, home / "pipeline", home / "scratch", TRAINING, seed=0, report=lambda _: None)
    return home


def test_what_was_trained_is_a_pipeline_of_safetensors(home: Path) -> None:
    painter = Painter(home / "pipeline", USE)
    assert type(painter.pipeline).__name__ == "StableDiffusionPipeline"
    one, other = (list(painter.paint(["a red block", "a blue chair"], seeds)) for seeds in ([1, 2], [1, 3]))
    assert isinstance(one[0], np.ndarray)
    assert one[0].shape == (3, SIZE, SIZE)
    np.testing.assert_array_equal(one[0], other[0])
    assert not np.array_equal(one[1], other[1])
    (long,) = painter.paint(["a very long sentence " * 20], [1])
    assert isinstance(long, str)
    assert long.startswith("too long: ")
    curve = pl.read_parquet(home / "pipeline" / "training.parquet")
    assert {"autoencoder/loss", "denoiser/loss"} <= set(curve["name"])


def test_the_version_is_that_of_the_files_and_may_be_pinned(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home / "pipeline", tmp_path / "copy"))
    version = folder_version(home / "pipeline")
    assert folder_version(copy) == version
    assert Painter(copy, USE.model_copy(update={"version": version})).version == version
    (copy / "unet" / "config.json").write_text((copy / "unet" / "config.json").read_text() + " ")
    with pytest.raises(InputError, match=f"corpus.text.version says {version}"):
        Painter(copy, USE.model_copy(update={"version": version}))


def test_pipelines_that_may_not_be_used_are_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="base_models has no text_to_image"):
        find_pipeline(tmp_path, USE)
    with pytest.raises(InputError, match=r"nowhere/model_index.json is missing"):
        find_pipeline(None, USE.model_copy(update={"at": str(tmp_path / "nowhere")}))
    copy = Path(shutil.copytree(home / "pipeline", tmp_path / "copy"))
    (copy / "unet" / "diffusion_pytorch_model.safetensors").rename(copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model.bin is a pickle"):
        find_pipeline(copy, USE)
    (copy / "model_index.json").write_text('{"_class_name": "PipelineOfTheirs"}')
    with pytest.raises(InputError, match="code of others is not run"):
        find_pipeline(copy, USE)


def squares(_: Painter, texts: list[str], seeds: list[int]) -> Iterator[np.ndarray]:
    """What a pipeline that can draw would give."""
    for _text, seed in zip(texts, seeds, strict=True):
        side = 6 + seed % 3
        yield picture(slice(4, 4 + side), slice(4, 4 + side), SIZE)


def test_a_prompt_starts_from_its_object_or_from_its_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Painter, "paint", squares)
    objects = pl.read_parquet(home / "objects.parquet").to_dicts()
    bound = {"id": "p0", "text": "a block", "object": objects[0]["id"], "file": objects[0]["file"], "seed": 1}
    free = {"id": "p1", "text": "a red chair", "object": None, "file": None, "seed": 2}
    config = CorpusConfig.model_validate({"text": USE.model_dump()})

    def draw(**more: object) -> list[Frame]:
        settings = config.model_copy(update=more)
        frames = FirstFrames(home, home / "pipeline", settings, RENDERING, seed=5).draw([bound, free])
        assert all(isinstance(frame, Frame) for frame in frames), frames
        return frames  # type: ignore[return-value]

    rendered, drawn = draw()
    assert (rendered.how, drawn.how) == (RENDERED, DRAWN)
    assert drawn.model == folder_version(home / "pipeline")
    np.testing.assert_array_equal(drawn.rgba, draw()[1].rgba)
    assert [frame.how for frame in draw(first_frame="text")] == [DRAWN, DRAWN]
    assert [frame.how for frame in draw(text_share=1.0)] == [DRAWN, DRAWN]
    with pytest.raises(InputError, match="base_models has no text_to_image"):
        FirstFrames(home, home / "nowhere", config, RENDERING, seed=5).draw([free])
    assert isinstance(FirstFrames(home, home / "nowhere", config, RENDERING, seed=5).draw([bound])[0], Frame)


def picture(rows: slice, columns: slice, size: int = 32) -> np.ndarray:
    image = np.ones((3, size, size))
    image[:, rows, columns] = np.array([0.8, 0.1, 0.1])[:, None, None]
    return image


def test_the_object_is_put_in_the_middle_at_the_size_of_renders() -> None:
    config = TextToImageUse.model_validate({"fill": 0.75})
    rgba = framed(picture(slice(2, 14), slice(3, 9)), config, 32)
    red = rgba[..., 1] < 128
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert abs(len(rows) - 24) <= 1
    assert abs(len(columns) - 12) <= 1
    assert abs(rows.mean() - 15.5) <= 1
    assert abs(columns.mean() - 15.5) <= 1
    assert (rgba[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.ones((3, 32, 32)), "empty"),
        (picture(slice(0, 32), slice(0, 20)), "cropped"),
        (np.full((3, 32, 32), 0.4), "background"),
        (np.full((3, 32, 32), np.nan), "not finite"),
    ],
)
def test_pictures_that_no_clip_can_begin_with_say_why(image: np.ndarray, why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        framed(image, TextToImageUse.model_validate({}), 32)
