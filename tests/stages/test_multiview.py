"""Training of the multi-view model on a toy collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from models.multiview import load_multiview
from models.multiview_config import BackboneConfig
from stages.errors import InputError
from stages.multiview import train as training
from stages.multiview.config import MultiviewTrainingConfig
from stages.multiview.figures import view_figures
from stages.multiview.rings import draw, read_rings, shown, told_rings
from stages.multiview.train import train
from stages.rendering.rings import RingsConfig
from stages.seeds import torch_generator
from stages.training import Report
from tests.models.test_multiview import SHAPES, stable_diffusion
from tests.stages.rings import RINGS, SIZE, write_rings

STEPS: dict[str, Any] = {"steps": 5, "batch": 4, "learning_rate": 1e-2, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rings")
    write_rings(root)
    return root


def run(
    collection: Path, output: Path, *, rings: RingsConfig = RINGS, report: Report = lambda event: None, **config: Any
) -> Path:
    output.mkdir(exist_ok=True)
    settings = MultiviewTrainingConfig.model_validate(
        {"training": STEPS, "measured": 8, "sampling_steps": 1, "objective": "change", **config}
    )
    train(
        collection / "manifest.parquet", collection / "shards", collection / "base", output, output / "scratch",
        settings, rings, seed=0, report=report,
    )  # fmt: skip
    return output


def test_a_picture_is_one_of_the_views_that_it_should_give(collection: Path) -> None:
    rings = read_rings(pl.read_parquet(collection / "manifest.parquet"), collection / "shards", "train", RINGS)
    assert rings.views.shape == (2, 4, 4, SIZE, SIZE, 4)
    assert set(rings.captions) == {"a block 0", "a block 1"}
    plain = shown(rings, 32, torch_generator(0))
    assert plain.views.shape == (32, 4, 3, SIZE, SIZE)
    assert all(torch.equal(p, v[k]) for p, v, k in zip(plain.pictures, plain.views, plain.own.tolist(), strict=True))
    assert set(plain.own.tolist()) == {0, 1, 2, 3}
    drawn = draw(rings, 32, torch_generator(0), permute_colours=False, captioned=0.5)
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(drawn.views, plain.views, strict=True)]
    assert all(f or torch.equal(a, b) for f, a, b in zip(flipped, drawn.views, plain.views, strict=True))
    assert 4 < sum(flipped) < 28
    assert 4 < drawn.captions.count("") < 28
    swapped = draw(rings, 32, torch_generator(0), permute_colours=True, captioned=1.0)
    assert "" not in swapped.captions
    torch.testing.assert_close(swapped.views.sum(2).flatten(1).sum(1), plain.views.sum(2).flatten(1).sum(1))
    assert len(set(told_rings(rings, 32, torch_generator(0)))) > 8
    assert told_rings(rings, 1, torch_generator(0))[0].startswith("train")


def test_rings_of_another_preset_are_refused(collection: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have 16 views, 4 rings of 8 have 32; make ring_views with the same preset"):
        run(collection, tmp_path / "out", rings=RingsConfig(azimuths=8))  # pyright: ignore[reportCallIssue]
    assert not (tmp_path / "out" / "config.json").exists()


def test_training_moves_the_unet_alone_and_leaves_a_whole_folder(collection: Path, tmp_path: Path) -> None:
    model = load_multiview(run(collection, tmp_path / "out"))
    begun = training.begin(collection / "base", MultiviewTrainingConfig(objective="change"), RINGS, SIZE, seed=0)  # pyright: ignore[reportCallIssue]
    before, after = begun.state_dict(), model.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"unet"}
    assert model.config.elevations == RINGS.elevations
    figures = dict(pl.read_parquet(tmp_path / "out" / "training.parquet").select("name", "value").rows())
    for split in ("train", "held-out"):
        assert {f"{split}/{name}" for name in ("own", "psnr", "repeated", "iou", "iou_repeated", "psnr/-18")} <= set(
            figures
        )
    assert (tmp_path / "out" / "views.png").is_file()


def test_it_learns(collection: Path, tmp_path: Path) -> None:
    steps = {"steps": 60, "batch": 8, "learning_rate": 1e-2, "ema": 0.9}
    curve = pl.read_parquet(run(collection, tmp_path / "out", training=steps) / "training.parquet")
    losses = curve.filter(pl.col("name") == "loss")["value"]
    assert losses[-10:].mean() < 0.9 * losses[:10].mean()  # pyright: ignore[reportOperatorIssue]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(
    collection: Path, tmp_path: Path, accumulate: int
) -> None:
    config: dict[str, Any] = {"training": {**STEPS, "accumulate": accumulate}}
    whole = run(collection, tmp_path / "whole", **config)

    class StoppedError(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(collection, tmp_path / "cut", report=stop, **config)
    resumed: list[int] = []
    cut = run(collection, tmp_path / "cut", report=lambda e: resumed.append(e.get("step", 0)), **config)
    assert min(resumed) > 2
    for name in ("unet/diffusion_pytorch_model.safetensors", "config.json", "training.parquet", "views.png"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def test_public_weights_of_the_family_are_taken_and_checked(collection: Path, tmp_path: Path) -> None:
    """A Stable Diffusion as people have it: KL autoencoder, epsilon prediction, float16."""
    folder = tmp_path / "public"
    stable_diffusion().to(torch.float16).save_pretrained(folder)
    config: dict[str, Any] = {"at": str(folder), "objective": "pipeline", "training": {**STEPS, "steps": 2}}
    model = load_multiview(run(collection, tmp_path / "out", backbone=SHAPES.model_dump(), **config))
    assert model.noising.kind == "epsilon"
    other = BackboneConfig.model_validate({**SHAPES.model_dump(), "layers": 2})
    with pytest.raises(InputError, match=r"unet: \S+ is missing instead of \(\d+.*multiview.backbone"):
        run(collection, tmp_path / "refused", backbone=other.model_dump(), **config)
    with pytest.raises(InputError, match=r"model_index.json is missing"):
        run(collection, tmp_path / "refused", at=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="4 elevations fill no grid of 3 columns"):
        run(collection, tmp_path / "refused", columns=3)


def test_figures_tell_views_from_repeated_pictures() -> None:
    truth = torch.rand(6, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    own = torch.tensor([0, 0, 1, 1, 1, 1])
    elevations = (-10.0, 0.0, 10.0)
    perfect = view_figures(truth, truth, own, elevations)
    assert perfect["psnr"] > 100
    assert perfect["iou"] == 1
    assert perfect["repeated"] == pytest.approx(-10 * float(torch.tensor(1 / 6).log10()), abs=0.3)  # of two evens
    rows = torch.arange(6)
    same = view_figures(truth[rows, own][:, None].expand_as(truth), truth, own, elevations)
    assert same["own"] > 100
    assert all(same[f"psnr/{e}"] == same[f"repeated/{e}"] for e in ("-10", "0", "10"))
    assert "psnr/0" not in view_figures(truth, truth, torch.ones(6, dtype=torch.long), elevations)
