"""Rays drawn from orbits, both trainings of the LRM on a toy collection, and what is exported from a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
import torch
import trimesh
from PIL import Image
from pydantic import ValidationError
from skimage.measure import marching_cubes
from torch import Tensor

from models.camera import Camera
from models.checkpoints import load, save
from models.config import EncoderConfig, LRMConfig
from models.encoder import Encoder
from models.lrm import LRM
from stages.errors import InputError
from stages.objects.splits import TRAIN
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.reconstruction.config import DrawConfig, ExportConfig, FinetuneConfig, MeshConfig, PretrainConfig
from stages.reconstruction.data import Orbits, RayBatch, accepted, draw_rays, rendered_orbits, synthetic_orbits
from stages.reconstruction.files import write_mesh
from stages.reconstruction.load import load as load_reconstructor
from stages.reconstruction.mesh import extract_mesh
from stages.reconstruction.preflight import posed
from stages.reconstruction.train import finetune, pretrain
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.views import render_shard
from stages.shards import Sample, write_shard
from tests.stages.blocks import write_blocks
from tests.stages.fields import balls, field

SIZE = 16
ENCODER = EncoderConfig(image_size=SIZE, table_size=SIZE, patch=4, width=12, layers=1, heads=2)
MODEL = LRMConfig(
    encoder=ENCODER,
    camera_width=8,
    width=12,
    layers=1,
    heads=2,
    plane_tokens=4,
    channels=4,
    decoder_width=8,
    decoder_layers=2,
    samples=8,
    importance_samples=0,
    align=True,
    view_channels=4,
    view_depths=4,
)
TRAINING = {"steps": 6, "batch": 2, "learning_rate": 1e-3, "checkpoint_every": 2}
DRAWS = {"rays": 24}
EXPORT = {"mesh": {"grid": 12, "texture": 64}, "turntable": {"frames": 4, "rate": 4, "size": 16}}


def silent(_: dict[str, Any]) -> None: ...


def ball_orbits(views: int = 16) -> Orbits:
    """A small ball off the centre, red with some green, seen from two rings."""
    place = torch.tensor([0.3, -0.2, 0.25])
    colour = torch.tensor([200, 90, 20], dtype=torch.uint8)
    rings = [Camera.orbit(views, elevation, azimuth=azimuth) for elevation, azimuth in ((10.0, 0.0), (35.0, 20.0))]
    rgb, alpha = [], []
    for ring in rings:
        origins, directions = ring.rays(32)
        closest = (place - origins) - ((place - origins) * directions).sum(-1, keepdim=True) * directions
        hit = (closest.norm(dim=-1) < 0.1).view(views, 32, 32)
        alpha.append(hit.to(torch.uint8) * 255)
        rgb.append(torch.where(hit[:, None], colour[:, None, None], torch.tensor(255, dtype=torch.uint8)))
    numbers = torch.stack([ring.numbers() for ring in rings])
    return Orbits(torch.stack(rgb), torch.stack(alpha), Camera.from_numbers(numbers), ("a-0-0", "b-0-0"))


def meeting_point(origins: Tensor, directions: Tensor) -> Tensor:
    """The point nearest to all of the rays."""
    across = torch.eye(3) - directions[:, :, None] * directions[:, None]
    return torch.linalg.solve(across.sum(0), (across @ origins[:, :, None]).sum(0))[:, 0]


@pytest.mark.parametrize("seed", range(3))
def test_rays_and_input_image_agree_on_where_the_object_is(seed: int) -> None:
    """Through mirroring, colour changes and the turn to the input camera."""
    batch = draw_rays(ball_orbits(), 8, DrawConfig(rays=200, near_object=0.9), torch.Generator().manual_seed(seed))
    assert batch.image.shape == (8, 3, 32, 32)
    for k in range(8):
        on_ball = batch.alpha[k] > 0.5
        place = meeting_point(batch.origins[k, on_ball], batch.directions[k, on_ball])
        u, v, depth = batch.source[k].project(place[None])[0]
        pixel = batch.image[k, :, int(v * 32), int(u * 32)]
        assert depth > 0
        torch.testing.assert_close(batch.rgb[k, on_ball], pixel.expand(int(on_ball.sum()), 3))
        assert batch.source.pose[k, 0, 3] > 0
        assert abs(float(batch.source.pose[k, 1, 3])) < 1e-5  # the input camera stands at azimuth 0


def test_all_mirrors_and_colours_come_up() -> None:
    batch = draw_rays(ball_orbits(), 64, DrawConfig(rays=8, near_object=1.0), torch.Generator().manual_seed(0))
    colours = {tuple((pixel * 255).round().int().tolist()) for pixel in batch.image.amin((-1, -2))}
    assert len(colours) == 6
    plain = DrawConfig(rays=8, near_object=1.0, permute_colours=False, mirror=False)
    batch = draw_rays(ball_orbits(), 64, plain, torch.Generator().manual_seed(0))
    assert {tuple((pixel * 255).round().int().tolist()) for pixel in batch.image.amin((-1, -2))} == {(200, 90, 20)}


def test_camera_noise_moves_the_supervised_cameras_alone() -> None:
    config = DrawConfig(rays=8, side_views=1)
    still, moved = (
        draw_rays(
            ball_orbits(), 64, config.model_copy(update={"camera_noise": noise}), torch.Generator().manual_seed(1)
        )
        for noise in (0.0, 5.0)
    )
    torch.testing.assert_close(still.source.pose, moved.source.pose)
    azimuth = [torch.atan2(batch.origins[:, 0, 1], batch.origins[:, 0, 0]) for batch in (still, moved)]
    turn = torch.rad2deg(torch.remainder(azimuth[1] - azimuth[0] + torch.pi, 2 * torch.pi) - torch.pi)
    assert 3 < turn.std() < 7


@pytest.mark.parametrize(("progress", "size"), [(0.0, 8), (0.49, 8), (0.5, 16), (0.99, 16)])
def test_patches_are_squares_of_each_view_at_the_size_of_the_stage(progress: float, size: int) -> None:
    config = DrawConfig(patch=6, sizes=(8, 16), near_object=1.0, side_views=2)
    batch = draw_rays(ball_orbits(), 8, config, torch.Generator().manual_seed(0), progress)
    assert batch.rgb.shape == (8, 2 * 36, 3)
    assert batch.patch == 6
    patches = batch.directions.view(8, 2, 6, 6, 3)
    origins = batch.origins.view(8, 2, 6, 6, 3)
    assert (origins == origins[:, :, :1, :1]).all()  # one camera a patch
    tall = (patches[:, :, 1:] - patches[:, :, :-1]).norm(dim=-1)
    wide = (patches[:, :, :, 1:] - patches[:, :, :, :-1]).norm(dim=-1)
    step = 1 / size / 0.75  # of neighbouring pixels, in the middle of a picture
    for length in (tall, wide):
        assert (length < 1.01 * step).all()
        assert (length > 0.6 * step).all()
    assert (batch.alpha.view(8, 2, -1).amax(-1) > 0).all()  # near the object


@pytest.mark.parametrize(
    ("noise", "moved"),
    [({"height_noise": 5.0}, "elevation"), ({"focal_noise": 0.1}, "width"), ({"camera_noise": 5.0}, "azimuth")],
)
def test_each_noise_moves_what_it_says(noise: dict[str, float], moved: str) -> None:
    draws = [
        draw_rays(
            ball_orbits(),
            64,
            DrawConfig(patch=32, side_views=1, camera_noise=0, permute_colours=False).model_copy(update=update),
            torch.Generator().manual_seed(3),
        )
        for update in ({}, noise)
    ]

    def facts(batch: RayBatch) -> dict[str, Tensor]:
        place = batch.origins[:, 0]
        ends = (batch.directions[:, 0] * batch.directions[:, 31]).sum(-1)
        return {
            "azimuth": torch.rad2deg(torch.atan2(place[:, 1], place[:, 0])),
            "elevation": torch.rad2deg(torch.asin(place[:, 2] / place.norm(dim=-1))),
            "width": torch.rad2deg(torch.acos(ends)),
            "distance": place.norm(dim=-1),
        }

    still, shifted = map(facts, draws)
    for name in still:
        change = (torch.remainder(shifted[name] - still[name] + 180, 360) - 180).std()
        assert change > 1 if name == moved else change < 0.01, name


def test_perceptual_losses_want_patches_and_patches_fit() -> None:
    with pytest.raises(ValidationError, match="give it patches"):
        FinetuneConfig.model_validate({"losses": {"perceptual": 1.0}})
    with pytest.raises(ValidationError, match="does not fit into views of 8 px"):
        DrawConfig(patch=9, sizes=(8, 16))
    with pytest.raises(ValidationError, match="must rise"):
        DrawConfig(sizes=(16, 8))


def test_orbits_whose_cameras_look_away_are_told_and_left_out() -> None:
    orbits = ball_orbits()
    many = Orbits(
        orbits.rgb[:1].repeat(12, 1, 1, 1, 1),
        orbits.alpha[:1].repeat(12, 1, 1, 1),
        Camera.from_numbers(orbits.cameras[0].numbers()[None].repeat(12, 1, 1)),
        tuple(f"o{number}" for number in range(12)),
    )
    away = many.cameras.pose.clone()
    away[3, :, :3, :3] *= torch.tensor([-1.0, 1.0, -1.0])  # a convention that looks along +z
    told: list[dict[str, Any]] = []
    kept = posed(replace(many, cameras=Camera(away, many.cameras.intrinsics)), 1.0, told.append)
    assert kept.ids == tuple(f"o{number}" for number in range(12) if number != 3)
    assert len(told) == 1
    assert "o3" in told[0]["message"]
    away[:6] = away[3]
    with pytest.raises(InputError, match="the cameras of 6 of 12 orbits do not fit"):
        posed(replace(many, cameras=Camera(away, many.cameras.intrinsics)), 1.0, told.append)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered blocks: shards and their manifest."""
    home = tmp_path_factory.mktemp("rendered")
    objects = write_blocks(home, train=3, validation=0, held_out=2)
    rendering = RenderingConfig(size=SIZE, supersampling=1, views=8)
    (home / "shards" / "000").mkdir(parents=True)
    render_shard(objects, home, home / "shards" / "000", rendering, seed=0, report=silent)
    write_manifest(home / "shards", home)
    return home


@pytest.fixture(scope="module")
def corpus(rendered: Path) -> Path:
    """The rendered training orbits in the place of generated clips: two accepted, one rejected."""
    clips, masks = rendered / "clips", rendered / "masks"
    orbits = rendered_orbits(pl.read_parquet(rendered / "manifest.parquet"), rendered / "shards", TRAIN)
    samples, silhouettes, rows = [], [], []
    for k, name in enumerate(orbits.ids):
        rgba = torch.cat((orbits.rgb[k].movedim(1, -1), torch.full((8, SIZE, SIZE, 1), 255, dtype=torch.uint8)), -1)
        mask = torch.zeros(8, SIZE, SIZE, 4, dtype=torch.uint8)
        mask[..., 3] = orbits.alpha[k]
        meta = {"cameras": Camera.orbit(8, 0.0).numbers().tolist()}
        samples.append(Sample(name, rgba.numpy(), meta))
        silhouettes.append(Sample(name, mask.numpy(), meta))
        where = {"shard": "000", "clips_path": "000/clips.tar", "masks_path": "000/masks.tar"}
        verdict = REJECTED if k == 2 else ACCEPTED
        rows.append({"id": name, "verdict": verdict, "elevation": 10.0 * (k + 1), **where})
    for folder, file, content in ((clips, "clips.tar", samples), (masks, "masks.tar", silhouettes)):
        (folder / "000").mkdir(parents=True)
        write_shard(folder / "000" / file, content)
    pl.DataFrame(rows).write_parquet(rendered / "corpus.parquet")
    return rendered


def test_synthetic_orbits_are_the_accepted_clips_at_their_estimated_elevation(corpus: Path) -> None:
    manifest = pl.read_parquet(corpus / "corpus.parquet")
    orbits = synthetic_orbits(accepted(manifest), corpus / "clips", corpus / "masks", 1.5)
    assert len(orbits.ids) == 2
    height = torch.rad2deg(torch.asin(orbits.cameras.pose[:, :, 2, 3] / 1.5))
    torch.testing.assert_close(height, torch.tensor([[10.0], [20.0]]).expand(2, 8), atol=1e-3, rtol=0)
    assert (orbits.rgb.amin(2)[orbits.alpha == 0] == 255).all()
    rejected = manifest.with_columns(verdict=pl.lit(REJECTED))
    with pytest.raises(ValueError, match="none of 3 clips was accepted"):
        accepted(rejected)


def train_both(corpus: Path, home: Path, **changes: Any) -> None:
    save(Encoder(ENCODER), ENCODER, home / "encoder")
    settings = PretrainConfig.model_validate(
        {"model": MODEL.model_dump(), "training": TRAINING, "draws": DRAWS, **changes}
    )
    pretrain(
        corpus / "corpus.parquet",
        corpus / "clips",
        corpus / "masks",
        home / "encoder",
        home / "pretrained",
        home / "scratch1",
        settings,
        seed=1,
        report=silent,
    )
    tuning = FinetuneConfig.model_validate({"training": TRAINING, "draws": DRAWS, "export": EXPORT, **changes})
    (home / "finetuned").mkdir()
    finetune(
        corpus / "manifest.parquet",
        corpus / "shards",
        home / "pretrained",
        home / "finetuned",
        home / "scratch2",
        tuning,
        seed=2,
        report=silent,
    )


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    train_both(corpus, home)
    return home


def test_both_trainings_leave_what_a_user_wants(trained: Path) -> None:
    for name in ("pretrained", "finetuned"):
        curve = pl.read_parquet(trained / name / "training.parquet")
        assert curve["value"].is_finite().all()
        assert load(trained / name, LRMConfig, LRM).config == MODEL
    made = trained / "finetuned"
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["objects"] == 2
    methods = {"lrm_finetuned", "lrm_pretrained", "mean image", "copy of the input"}
    assert set(pl.read_parquet(made / "metrics.parquet")["method"]) == methods
    with av.open(str(made / "turntable.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 4
    assert (trained / "scratch2" / "preview" / "held-out.png").is_file()


def test_the_asset_names_the_model_it_comes_from(trained: Path) -> None:
    from stages.hashing import file_md5

    data = (trained / "finetuned" / "asset.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    assert json.loads(data[20 : 20 + length])["asset"]["extras"]["model_md5"] == file_md5(
        trained / "finetuned" / "model.safetensors"
    )


def test_the_same_seed_gives_the_same_bytes(trained: Path, corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    train_both(corpus, tmp_path)
    for file in sorted(path.relative_to(trained) for path in (trained / "finetuned").iterdir()):
        assert (tmp_path / file).read_bytes() == (trained / file).read_bytes(), file


def test_two_processes_train_both_as_one_does(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """The same curve but for rounding, and the same validation."""
    torch.manual_seed(0)
    train_both(corpus, tmp_path, training={**TRAINING, "accumulate": 2, "devices": 2})
    for name in ("pretrained", "finetuned"):
        one, two = (pl.read_parquet(home / name / "training.parquet") for home in (trained, tmp_path))
        assert two.select("step", "name").equals(one.select("step", "name"))
        assert two["value"].to_list() == pytest.approx(one["value"].to_list(), rel=1e-3)
    homes = (trained, tmp_path)
    alone, shared = (pl.read_parquet(home / "finetuned" / "metrics.parquet").select(cs.float()) for home in homes)
    np.testing.assert_allclose(shared.to_numpy(), alone.to_numpy(), rtol=1e-2)


def test_an_encoder_that_is_not_to_be_trained_keeps_its_weights(corpus: Path, tmp_path: Path) -> None:
    for train_encoder in (True, False):
        train_both(corpus, tmp_path / str(train_encoder), train_encoder=train_encoder)
    base = load(tmp_path / "False" / "encoder", EncoderConfig, Encoder).state_dict()
    for name in ("pretrained", "finetuned"):
        kept = load(tmp_path / "False" / name, LRMConfig, LRM)
        moved = load(tmp_path / "True" / name, LRMConfig, LRM)
        assert all(torch.equal(value, base[key]) for key, value in kept.encoder.state_dict().items())
        assert not all(torch.equal(value, base[key]) for key, value in moved.encoder.state_dict().items())


def test_an_encoder_of_another_size_is_refused(corpus: Path, tmp_path: Path) -> None:
    other = ENCODER.model_copy(update={"layers": 2})
    save(Encoder(other), other, tmp_path / "encoder")
    settings = PretrainConfig.model_validate({"model": MODEL.model_dump(), "training": TRAINING})
    with pytest.raises(ValueError, match="make them agree"):
        pretrain(
            corpus / "corpus.parquet",
            corpus / "clips",
            corpus / "masks",
            tmp_path / "encoder",
            tmp_path / "out",
            tmp_path / "scratch",
            settings,
            seed=0,
            report=silent,
        )


BALL = balls(((0, 0, 0), 0.6))


def test_a_mesh_has_the_size_and_the_colours_of_its_density(tmp_path: Path) -> None:
    lrm, planes = field(BALL)
    mesh = extract_mesh(lrm, planes, MeshConfig(grid=40, threshold=1.0))
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5, atol=0.02)
    assert mesh.is_watertight
    assert mesh.volume > 0  # faces look outwards
    write_mesh(mesh, tmp_path / "ball.glb", {})
    again: Any = trimesh.load(tmp_path / "ball.glb", force="mesh")
    top = again.vertices[:, 1] > 0.4
    assert (np.asarray(again.visual.vertex_colors)[top, 0] > 180).all()  # up is y in a GLB


@pytest.mark.parametrize("grid", [33, 64, 70])
def test_slabs_are_stitched_to_the_surface_of_the_whole_grid(grid: int) -> None:
    lrm, planes = field(BALL)
    mesh = extract_mesh(lrm, planes, MeshConfig(grid=grid, threshold=1.0))
    density = torch.cat(list(lrm.densities(planes, grid))).numpy()
    vertices, faces, _, _ = marching_cubes(density, 1.0)
    whole = trimesh.Trimesh(vertices / (grid - 1) * 1.8 - 0.9, faces[:, ::-1], process=True)
    assert mesh.is_watertight
    assert len(mesh.faces) == len(whole.faces)
    assert mesh.volume == pytest.approx(whole.volume, rel=1e-6)
    assert mesh.body_count == 1


def test_what_the_box_cuts_is_closed() -> None:
    lrm, planes = field(balls(((0, 0, 0), 0.7)), box=0.4)
    assert extract_mesh(lrm, planes, MeshConfig(grid=16)).is_watertight


def test_an_empty_box_has_no_mesh() -> None:
    lrm, planes = field(balls(((0, 0, 0), -1.0)))
    with pytest.raises(InputError, match="no surface"):
        extract_mesh(lrm, planes, MeshConfig(grid=8))


def test_one_image_becomes_an_asset_and_a_video(trained: Path, tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste((10, 120, 200), (10, 10, 30, 30))
    picture.save(tmp_path / "in.png")
    settings = ExportConfig.model_validate(EXPORT)
    asset = load_reconstructor(trained / "finetuned", config=settings)(tmp_path / "in.png")
    asset.write(tmp_path / "out.glb")
    asset.write_turntable(tmp_path / "out.mp4")
    mesh: Any = trimesh.load(tmp_path / "out.glb", force="mesh")
    assert len(mesh.faces) > 0
    assert (tmp_path / "out.mp4").stat().st_size > 0
