from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from models.checkpoints import load
from models.config import EncoderConfig
from models.encoder import Encoder
from stages.base.config import BankConfig, EncoderTrainingConfig
from stages.base.encoder import draw_pairs, geometry, nt_xent, train_encoder
from stages.base.views import HALF, Bank, render_bank, training_rows
from stages.config import TrainingConfig
from stages.objects.splits import TRAIN, split_of
from tests.stages.blocks import write_blocks

BANK = BankConfig.model_validate({"rendering": {"size": 32, "views": 4}, "variants": 2, "orbits": 2})
TRAINING = {"steps": 8, "batch": 4, "learning_rate": 1e-3, "muon": 0.02, "checkpoint_every": 2}
CONFIG = EncoderTrainingConfig(
    encoder=EncoderConfig.model_validate(
        {"image_size": 32, "table_size": 32, "patch": 8, "width": 32, "layers": 1, "heads": 2}
    ),
    bank=BANK.model_copy(update={"grid": 16, "rendering": BANK.rendering.model_copy(update={"invented": 2})}),
    training=TrainingConfig.model_validate(TRAINING),
)


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("source")
    return write_blocks(folder, train=3), folder


@pytest.fixture(scope="module")
def bank(source: tuple[pl.DataFrame, Path]) -> Bank:
    return render_bank(*source, BANK, seed=3, report=quiet)


def test_bank_holds_training_objects_only(source: tuple[pl.DataFrame, Path], bank: Bank) -> None:
    objects, folder = source
    creators = dict(objects.select("id", "creator").rows())
    assert {split_of(creators[i]) for i in bank.ids} == {TRAIN}
    # a table whose split column lies does not open the door
    lying = objects.with_columns(split=pl.lit(TRAIN))
    assert set(training_rows(lying)["id"]) == set(bank.ids)
    with pytest.raises(ValueError, match="none of 3 objects"):
        render_bank(objects.filter(pl.col("split") != TRAIN), folder, BANK, seed=3, report=quiet)


def test_bank_depends_on_the_object_alone(source: tuple[pl.DataFrame, Path], bank: Bank) -> None:
    objects, folder = source
    alone = render_bank(objects.filter(pl.col("id") == bank.ids[1]), folder, BANK, seed=3, report=quiet)
    assert torch.equal(alone.rgba, bank.rgba[bank.object == 1])


def test_bank_leaves_out_a_broken_mesh(source: tuple[pl.DataFrame, Path], tmp_path: Path) -> None:
    objects = write_blocks(tmp_path, train=2, validation=0, held_out=0)
    (tmp_path / objects["file"][0]).write_bytes(b"no mesh")
    told: list[dict[str, Any]] = []
    assert render_bank(objects, tmp_path, BANK, seed=3, report=told.append).ids == (objects["id"][1],)
    assert any("left out" in event["message"] for event in told)


def test_normals_face_the_camera_and_heights_stay_in_the_sphere(bank: Bank) -> None:
    rendering = BANK.rendering
    orbit, view = torch.arange(len(bank.object)), torch.zeros(len(bank.object), dtype=torch.long)
    inside = bank.rgba[orbit, view][..., 3] == 255
    dense = geometry(bank.depth[orbit, view].float(), bank.normals[orbit, view].float(), bank.elevation, rendering)
    normals = dense[:, 1:4].movedim(1, -1)[inside]
    assert (normals.norm(dim=-1) <= 1.01).all()
    assert (normals[:, 2] > -0.2).float().mean() > 0.98
    height = dense[:, 5][inside]
    assert height.abs().max() <= rendering.fit + 0.05
    for image, covered in zip(dense, inside, strict=True):  # what looks straight up is the seat or the top of the back
        level = image[5][covered & (image[4] > 0.99)]
        if len(level):  # from low cameras neither is seen
            assert torch.minimum(level - level.min(), level.max() - level).max() < 0.03


def test_matching_views_lose_less() -> None:
    things = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert nt_xent(torch.cat((things, things)), 0.1) < nt_xent(torch.cat((things, things.roll(1, 0))), 0.1)


def test_interrupted_training_ends_with_the_same_bytes(source: tuple[pl.DataFrame, Path], tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event.get("of") == TRAINING["steps"] and event["step"] == 5:
            raise StopError

    def train(name: str, report: Any = quiet) -> bytes:
        train_encoder(*source, tmp_path / name, tmp_path / f"{name}-state", CONFIG, seed=1, report=report)
        return b"".join(file.read_bytes() for file in sorted((tmp_path / name).iterdir()))

    with pytest.raises(StopError):
        train("resumed", stop)
    assert train("resumed") == train("straight")
    encoder = load(tmp_path / "straight", EncoderConfig, Encoder)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 17, 32)
    curve = pl.read_parquet(tmp_path / "straight" / "training.parquet")
    assert {"loss", "match", "depth", "normals", "tilt", "retrieval"} <= set(curve["name"])


def test_solid_space_starts_at_the_visible_surface(source: tuple[pl.DataFrame, Path]) -> None:
    """The first solid place along a pixel's ray lies at the depth that the renderer saw there."""
    rendering = BANK.rendering.model_copy(update={"invented": 4})
    config = CONFIG.model_copy(
        update={"bank": BANK.model_copy(update={"grid": 48, "rendering": rendering}), "depths": 64}
    )
    bank = render_bank(*source, config.bank, seed=3, report=quiet)
    assert len(bank.solid) == int(bank.variant.max()) + 1
    batch = draw_pairs(bank, config, torch.Generator().manual_seed(0))
    depth = batch.geometry[:, 0].flatten(1).gather(1, batch.pixels)
    covered = (batch.alpha.flatten(1).gather(1, batch.pixels) == 1) & (batch.solid.sum(-1) > 0)
    first = (batch.solid.argmax(-1) + 0.5) / 64 * 2 - 1
    away = (first * HALF - depth)[covered]
    assert covered.float().mean() > 0.2
    assert away.abs().quantile(0.9) < 0.08
    assert (batch.solid.sum(-1)[batch.alpha.flatten(1).gather(1, batch.pixels) == 0] > 3).float().mean() < 0.1
