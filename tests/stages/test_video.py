"""Clips, their figures, fine-tuning and generation on a toy collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import trimesh

from models.config import WanConfig
from models.video import build_video, load_video
from stages.config import TrainingConfig
from stages.corpus.config import CorpusConfig
from stages.corpus.generate import generate_shard
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.views import render_shard
from stages.shards import read_shard
from stages.video.clips import draw_motions, on_white, ring_views
from stages.video.config import VideoFinetuneConfig
from stages.video.figures import clip_figures
from stages.video.finetune import finetune
from tests.stages.test_rendering import coloured, row
from tests.stages.test_rendering import save as save_mesh

RENDERING = RenderingConfig(size=32, supersampling=1, views=8)
VIDEO = WanConfig(width=32, heads=2, layers=1, autoencoder_width=16, autoencoder_blocks=1)
TRAINING = TrainingConfig(steps=6, batch=2, learning_rate=1e-3, checkpoint_every=2)


@pytest.fixture
def orbits() -> torch.Tensor:
    """Two rings whose views are told apart by their colour; left half opaque."""
    rings = torch.zeros(2, 16, 4, 4, 4, dtype=torch.uint8)
    rings[..., 0] = torch.arange(16, dtype=torch.uint8)[:, None, None]
    rings[1, ..., 1] = 100
    rings[..., :2, 3] = 255
    return rings


def test_a_clip_takes_evenly_spaced_views_from_any_start(orbits: torch.Tensor) -> None:
    views = ring_views(orbits.shape[1], torch.tensor([3, 15]), 8)
    clips = on_white(orbits[torch.tensor([[0], [1]]), views])
    red = (clips[:, :, 0, 0, 0] * 255).round().int()
    assert red.tolist() == [[3, 5, 7, 9, 11, 13, 15, 1], [15, 1, 3, 5, 7, 9, 11, 13]]
    assert (clips[..., -1] == 1).all()  # white where nothing is


def test_a_mirrored_clip_turns_the_same_way(orbits: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    clips = draw_motions(orbits, 64, 8, generator, general=0.0)
    red = clips[:, :, 0].amin((-1, -2)) * 255
    mirrored = clips[:, 0, 0, 0, 0] == 1
    assert 10 < mirrored.sum() < 54
    step = (red[:, 1] - red[:, 0]).round().int() % 16
    assert (step[~mirrored] == 2).all()
    assert (step[mirrored] == 14).all()  # played backwards


def test_clips_that_do_not_divide_the_ring_are_refused(orbits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="16 views cannot be cut into clips of 5 frames"):
        ring_views(orbits.shape[1], torch.tensor([0]), 5)


def test_figures_tell_orbits_from_frozen_reversed_and_grey_clips() -> None:
    torch.manual_seed(0)
    truth = torch.rand(4, 8, 3, 8, 8)
    perfect = clip_figures(truth, truth)
    assert perfect["anti_cosine"] == pytest.approx(1)
    assert perfect["chroma_slope"] == pytest.approx(1)
    assert perfect["first_frame"] > 100
    assert perfect["iou"] == 1
    half = truth.clone()
    half[..., :4] = 1  # white: of a full silhouette half is gone
    assert clip_figures(half, torch.zeros_like(truth))["iou"] == pytest.approx(0.5, abs=0.01)
    frozen = clip_figures(truth[:, :1].expand_as(truth), truth)
    assert frozen["anti_cosine"] == pytest.approx(0, abs=1e-6)
    assert frozen["pooled"] == pytest.approx(frozen["repeated"])
    backwards = truth[:, -torch.arange(8) % 8]
    assert clip_figures(backwards, truth)["anti_cosine"] == pytest.approx(-1)
    grey = truth.mean(2, keepdim=True).expand_as(truth)
    assert clip_figures(grey, truth)["chroma_slope"] == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered boxes, a manifest and a base video model, laid out as the stages read them."""
    root = tmp_path_factory.mktemp("collection")
    save_mesh(root, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    shard = root / "shards" / "000"
    shard.mkdir(parents=True)
    objects = pl.DataFrame([row("a", "box.glb"), row("b", "box.glb", split="held-out")])
    render_shard(objects, root, shard, RENDERING, seed=0, report=lambda event: None)
    write_manifest(root / "shards", root)
    torch.manual_seed(0)
    build_video(VIDEO).save(root / "base")
    return root


def tune(collection: Path, output: Path, **training: Any) -> Path:
    output.mkdir()
    config = VideoFinetuneConfig(training=TRAINING.model_copy(update=training), sampling_steps=1)
    finetune(
        collection / "manifest.parquet", collection / "shards", collection / "base", output, output / "scratch", config,
        seed=0, report=lambda event: None,
    )  # fmt: skip
    return output


def test_fine_tuning_trains_the_denoiser_alone_and_repeats(collection: Path, tmp_path: Path) -> None:
    first, second = tune(collection, tmp_path / "first"), tune(collection, tmp_path / "second")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert (first / "training.parquet").read_bytes() == (second / "training.parquet").read_bytes()
    before, after = (load_video(f).state_dict() for f in (collection / "base", first))
    for name, tensor in before.items():
        # an unused projection of the empty text slot need not move
        if name.startswith("autoencoder") or name.startswith("latent"):
            assert torch.equal(tensor, after[name]), name
    assert any(not torch.equal(t, after[n]) for n, t in before.items() if n.startswith("denoiser"))
    names = set(pl.read_parquet(first / "training.parquet")["name"])
    assert {"loss", "before/anti_cosine", "after/anti_cosine", "after/chroma_slope"} <= names


def prompts(*files: str) -> pl.DataFrame:
    return pl.DataFrame(
        [{**row(f"p{i}", file), "text": "a box", "object": "a", "seed": i} for i, file in enumerate(files)]
    )


def generate(collection: Path, output: Path, table: pl.DataFrame) -> Path:
    output.mkdir()
    config = CorpusConfig(steps=1, batch=2, supersampling=1)
    generate_shard(table, collection, collection / "base", output, config, RENDERING, seed=0, report=lambda event: None)
    return output


def test_every_prompt_becomes_a_clip_or_a_reason(collection: Path, tmp_path: Path) -> None:
    output = generate(collection, tmp_path / "out", prompts("box.glb", "absent.glb", "box.glb"))
    samples = {s.id: s for s in read_shard(output / "clips.tar")}
    assert samples.keys() == {"p0", "p2"}
    assert samples["p0"].views.shape == (8, 32, 32, 4)
    assert samples["p0"].meta["elevation"] is None
    assert samples["p0"].meta["first_frame"].startswith("render of a training object")
    assert (samples["p0"].views != samples["p2"].views).any()
    quarantine = pl.read_parquet(output / "quarantine.parquet").to_dicts()
    assert [q["id"] for q in quarantine] == ["p1"]
    assert "no first frame" in quarantine[0]["reason"]


def test_a_shard_repeats_byte_for_byte(collection: Path, tmp_path: Path) -> None:
    table = prompts("box.glb", "box.glb", "box.glb")
    one, two = (generate(collection, tmp_path / name, table) for name in ("one", "two"))
    assert (one / "clips.tar").read_bytes() == (two / "clips.tar").read_bytes()
