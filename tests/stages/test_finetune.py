"""Fine-tuning of Stable Video Diffusion on a toy collection: what moves, what does not, and what is made once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import trimesh
from torch import Tensor

from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from models.svd import StableVideo
from models.video import build_video, load_video
from stages.config import TrainingConfig
from stages.corpus.config import CorpusConfig
from stages.corpus.generate import generate_shard
from stages.errors import InputError
from stages.parts import RowsOfNoise, rows_of
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.views import render_shard
from stages.seeds import torch_generator
from stages.shards import read_shard
from stages.video import finetune as tuning
from stages.video.clips import draw_clips, read_rings
from stages.video.config import VideoFinetuneConfig
from stages.video.finetune import finetune
from stages.video.latents import LatentBank
from stages.video.orbits import judge_orbits
from tests.models.test_svd import TINY
from tests.stages.test_rendering import coloured, row
from tests.stages.test_rendering import save as save_mesh
from tests.stages.test_video import VIDEO, prompts

RENDERING = RenderingConfig(size=32, supersampling=1, views=8, orbits=2)
TRAINING = TrainingConfig(steps=3, batch=2, learning_rate=1e-3, checkpoint_every=2)


@pytest.fixture(autouse=True)
def _few_clips_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MEASURED", 4)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two orbits of a box, a manifest, and base models of both families."""
    root = tmp_path_factory.mktemp("collection")
    save_mesh(root, "box.glb", coloured(trimesh.creation.box((1, 2, 3))))
    shard = root / "shards" / "000"
    shard.mkdir(parents=True)
    render_shard(pl.DataFrame([row("a", "box.glb")]), root, shard, RENDERING, seed=0, report=lambda event: None)
    write_manifest(root / "shards", root)
    torch.manual_seed(0)
    build_video(TINY).save(root / "svd")
    build_video(VIDEO).save(root / "wan")
    return root


def tune(collection: Path, output: Path, *, base: str = "svd", **config: Any) -> Path:
    output.mkdir(exist_ok=True)
    settings = VideoFinetuneConfig.model_validate({"training": TRAINING, "sampling_steps": 1, **config})
    finetune(
        collection / "manifest.parquet", collection / "shards", collection / base, output, output / "scratch", settings,
        seed=0, report=lambda event: None,
    )  # fmt: skip
    return output


def changed(before: Path, after: Path) -> tuple[set[str], set[str]]:
    """Names of the tensors that moved, and of those that are the same to the bit."""
    old, new = (load_video(folder).state_dict() for folder in (before, after))
    assert old.keys() == new.keys()
    same = {name for name, tensor in old.items() if torch.equal(tensor, new[name])}
    return set(old) - same, same


def test_temporal_fine_tuning_moves_the_layers_over_frames_alone(collection: Path, tmp_path: Path) -> None:
    moved, same = changed(collection / "svd", tune(collection, tmp_path / "out", trainable="temporal"))
    temporal = {f"denoiser.{name}" for name in StableVideo(TINY).temporal()}
    assert moved <= temporal
    assert len(moved) > 0.95 * len(temporal)
    kinds = {"temporal_transformer_blocks", "temporal_res_block", "time_mixer", "time_pos_embed"}
    assert all(any(kind in name for kind in kinds) for name in moved)
    for kind in kinds:
        assert any(kind in name for name in moved), kind
    assert {name.split(".")[0] for name in same} == {"denoiser", "autoencoder", "image_encoder"}


def test_fine_tuning_all_leaves_the_encoders_alone(collection: Path, tmp_path: Path) -> None:
    moved, same = changed(collection / "svd", tune(collection, tmp_path / "out"))
    assert {name.split(".")[0] for name in moved} == {"denoiser"}
    assert any("transformer_blocks" in name and "temporal" not in name for name in moved)
    idle = {name for name in same if name.startswith("denoiser")}
    assert all(".attn2." in name or ".norm2." in name for name in idle)


def test_adapters_are_merged_into_the_attention_over_frames(collection: Path, tmp_path: Path) -> None:
    out = tune(collection, tmp_path / "out", trainable="lora", lora={"rank": 2, "alpha": 4})
    moved, _ = changed(collection / "svd", out)
    wanted = {f"denoiser.{name}.weight" for name in StableVideo(TINY).attention()}
    assert moved <= wanted
    assert len(moved) > 0.9 * len(wanted)
    before, after = (load_video(folder).state_dict() for folder in (collection / "svd", out))
    ranks = [int(torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3)) for name in moved]
    assert max(ranks) <= 2


def test_adapters_work_on_wan_and_temporal_layers_are_refused(collection: Path, tmp_path: Path) -> None:
    moved, _ = changed(collection / "wan", tune(collection, tmp_path / "out", base="wan", trainable="lora"))
    assert moved == {f"denoiser.blocks.0.attn1.{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out.0")}
    with pytest.raises(InputError, match=r"no layer of the wan family.*trainable: all"):
        tune(collection, tmp_path / "refused", base="wan", trainable="temporal")


@pytest.mark.parametrize("trainable", ["temporal", "lora"])
def test_a_training_repeats_byte_for_byte(collection: Path, tmp_path: Path, trainable: str) -> None:
    one, two = (tune(collection, tmp_path / name, trainable=trainable) for name in ("one", "two"))
    files = [file for file in one.rglob("*.safetensors") if "scratch" not in file.parts]
    assert files
    for file in files:
        assert file.read_bytes() == (two / file.relative_to(one)).read_bytes(), file.name
    assert (one / "training.parquet").read_bytes() == (two / "training.parquet").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from stages.video import finetune as tuning
from stages.video.config import VideoFinetuneConfig

tuning.MEASURED = 4
root, output, config = Path(sys.argv[1]), Path(sys.argv[2]), VideoFinetuneConfig.model_validate_json(sys.argv[3])

def report(event):
    if event.get("step") == 5:
        os.kill(os.getpid(), signal.SIGKILL)

output.mkdir()
tuning.finetune(root / "manifest.parquet", root / "shards", root / "svd", output, output / "scratch", config, seed=0,
         report=report)
"""


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    collection: Path, tmp_path: Path, accumulate: int
) -> None:
    training = TRAINING.model_copy(update={"steps": 7, "accumulate": accumulate})
    config = VideoFinetuneConfig(training=training, sampling_steps=1)  # pyright: ignore[reportCallIssue]
    cut = tmp_path / "cut"
    command = [sys.executable, "-c", KILLED, str(collection), str(cut), config.model_dump_json()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert {path.name for path in (cut / "scratch").glob("*.ckpt")} == {"step=2.ckpt", "step=4.ckpt"}
    assert not list(cut.glob("*.*"))
    resumed, whole = (tune(collection, tmp_path / name, training=training) for name in ("cut", "whole"))
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and "scratch" not in path.parts]
    assert Path("training.parquet") in files
    for file in files:
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize("base", ["svd", "wan"])
def test_the_gradient_of_a_batch_is_the_mean_of_its_parts(collection: Path, tmp_path: Path, base: str) -> None:
    """Adam's steps would hide it: they follow the sign where a gradient is nothing but rounding."""
    rings = read_rings(pl.read_parquet(collection / "manifest.parquet"), collection / "shards", "train")
    model = load_video(collection / base)
    denoising = VideoFinetuneConfig().denoising  # pyright: ignore[reportCallIssue]
    batch = LatentBank(model, rings, denoising, tmp_path, seed=0).draw(4, torch_generator(0, "batch", 0))

    def gradient(parts: int) -> Tensor:
        model.zero_grad()
        for number in range(parts):
            with RowsOfNoise(number, parts, 4 // parts):
                loss = model.loss(*rows_of(batch, number, parts), denoising, torch_generator(0, "noise", 0))["loss"]
            (loss / parts).backward()
        return torch.cat([p.grad.flatten() for p in model.denoiser.parameters() if p.grad is not None])

    whole = gradient(1)
    for parts in (2, 4):
        assert (gradient(parts) - whole).norm() < 1e-5 * whole.norm()


def test_a_training_in_parts_has_the_curve_of_the_whole(collection: Path, tmp_path: Path) -> None:
    """Parts in one process, and one in each of two."""
    curves = []
    for accumulate, devices in ((1, 1), (2, 1), (2, 2)):
        training = TRAINING.model_copy(update={"accumulate": accumulate, "devices": devices})
        folder = tune(collection, tmp_path / f"{accumulate}-{devices}", base="wan", training=training)
        curves.append(pl.read_parquet(folder / "training.parquet").filter(name="loss")["value"].to_list())
    assert len(curves[0]) == TRAINING.steps
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


def test_a_broken_view_is_named_with_the_batch_that_it_is_in(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training stops at that step, keeps the last good state, and goes on from there when the fault is gone."""
    loss, calls = StableVideo.loss, iter(range(100))

    def spoiled(self: StableVideo, *args: Any) -> dict[str, Tensor]:
        values = loss(self, *args)
        return {"loss": values["loss"] * torch.nan} if next(calls) == 3 else values

    training = TRAINING.model_copy(update={"steps": 5})
    monkeypatch.setattr(StableVideo, "loss", spoiled)
    told = r"nan at step 3: .* \(a-0-\d from view \d, a-0-\d from view \d\); the last good state, step=2.ckpt, is kept"
    with pytest.raises(InputError, match=told):
        tune(collection, tmp_path / "out", training=training)
    monkeypatch.setattr(StableVideo, "loss", loss)
    resumed, whole = (tune(collection, tmp_path / name, training=training) for name in ("out", "whole"))
    assert changed(resumed, whole)[0] == set()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images went through the autoencoder's encoder at each call."""
    counted: list[int] = []
    latents = StableVideo._latents

    def counting(self: StableVideo, images: Tensor, shift: bool = True) -> Tensor:
        counted.append(len(images))
        return latents(self, images, shift)

    monkeypatch.setattr(StableVideo, "_latents", counting)
    return counted


def test_every_view_is_encoded_once(collection: Path, tmp_path: Path, calls: list[int]) -> None:
    """However many clips are drawn, and not again when the training is taken up again."""
    rings = read_rings(pl.read_parquet(collection / "manifest.parquet"), collection / "shards", "train")
    model = load_video(collection / "svd")
    config = VideoFinetuneConfig().denoising  # pyright: ignore[reportCallIssue]
    bank = LatentBank(model, rings, config, tmp_path, seed=0)
    drawn = [bank.draw(4, torch_generator(0, "batch", step)) for step in range(20)]
    views = rings.shape[0] * rings.shape[1]
    assert bank.encoded == len(rings) == 2
    assert sum(calls) == views * (1 + config.noised_copies)
    calls.clear()
    resumed = LatentBank(model, rings, config, tmp_path, seed=0)
    again = resumed.draw(4, torch_generator(0, "batch", 19))
    assert (resumed.encoded, calls) == (0, [])
    assert torch.equal(again.clean, drawn[19].clean)
    assert torch.equal(again.condition["first"], drawn[19].condition["first"])


def test_kept_latents_are_those_of_the_clips(collection: Path, tmp_path: Path) -> None:
    rings = read_rings(pl.read_parquet(collection / "manifest.parquet"), collection / "shards", "train")
    model = load_video(collection / "svd")
    config = VideoFinetuneConfig().denoising  # pyright: ignore[reportCallIssue]
    bank = LatentBank(model, rings, config, tmp_path, seed=0)
    batch = bank.draw(3, torch_generator(0, "batch", 0))
    clips = draw_clips(rings, 3, TINY.frames, torch_generator(0, "batch", 0))
    with torch.no_grad():
        assert torch.allclose(batch.clean, model.encode(clips), atol=1e-4)
        assert torch.allclose(batch.condition["embedding"], model.embed(clips[:, 0]), atol=1e-4)  # type: ignore[operator]
    # other weights of the encoders, another file
    other = build_video(TINY)
    LatentBank(other, rings, config, tmp_path, seed=0).ring(0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == bank.encoded + 1


def test_a_generated_clip_says_how_it_was_drawn(collection: Path, tmp_path: Path) -> None:
    sampling = {"guidance": [1.0, 2.0], "fps": 9, "decode_chunk": 4}
    config = CorpusConfig.model_validate({"steps": 2, "batch": 2, "supersampling": 1, "sampling": sampling})
    table = prompts("box.glb", "absent.glb", "box.glb")
    generate_shard(
        table, collection, collection / "svd", tmp_path, config, RENDERING,
        seed=0, report=lambda event: None, version="abc",
    )  # fmt: skip
    samples = list(read_shard(tmp_path / "clips.tar"))
    assert [sample.id for sample in samples] == ["p0", "p2"]
    how = samples[0].meta["sampling"]
    assert (how["guidance"], how["steps"], how["fps"], how["model"]) == ([1.0, 2.0], 2, 9, "abc")
    assert samples[0].meta["azimuths"] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert pl.read_parquet(tmp_path / "quarantine.parquet")["id"].to_list() == ["p1"]


def test_the_judge_writes_what_it_found_beside_the_curve(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = EncoderConfig(image_size=16, table_size=16, patch=8, width=16, layers=1, heads=2)
    save(Encoder(encoder), encoder, tmp_path / "encoder")
    out = tune(collection, tmp_path / "out")
    curve = pl.read_parquet(out / "training.parquet")
    monkeypatch.setattr("stages.video.judge.ACCEPTED", -2.0)  # what so small an encoder tells is not the matter here
    judge = {"clips": 6, "steps": 2, "measured": 3, "tried": 2}
    config = VideoFinetuneConfig.model_validate({"training": TRAINING, "sampling_steps": 1, "judge": judge})
    told: list[str] = []
    judge_orbits(
        collection / "manifest.parquet", collection / "shards", collection / "svd", tmp_path / "encoder", out, config,
        seed=0, report=lambda event: told.extend([event["message"]] if "message" in event else []),
    )  # fmt: skip
    both = pl.read_parquet(out / "training.parquet")
    assert both.head(len(curve)).equals(curve)
    found = dict(both.tail(-len(curve)).select("name", "value").iter_rows())
    assert (found["judge/measured"], found["judge/judged"], found["after/accepted"]) == (3, 3, 1)
    assert {name.split("/")[0] for name in found} == {"judge", "rendered", "before", "after"}
    assert {"judge/accepted frozen", "judge/accepted pan", "before/orbit", "after/sameness"} <= found.keys()
    assert told == ["3 of 3 rendered orbits carry an azimuth that the judge can tell"]
