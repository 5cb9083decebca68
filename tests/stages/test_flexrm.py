"""FlexRM's stages: what is drawn of rings and pools, disturbed inputs, both trainings, figures and exports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.camera import Camera
from models.checkpoints import save
from models.config import EncoderConfig
from models.encoder import Encoder
from models.flexrm_config import FlexRMConfig
from models.gaussians import Gaussians
from stages.curation.rings import ring_pools
from stages.errors import InputError
from stages.flexrm.asset import is_flexrm, load_flexrm
from stages.flexrm.config import FlexRMTrainingConfig, ImperfectConfig, ViewDrawConfig, ViewsProtocolConfig
from stages.flexrm.data import draw_count, draw_views, spread_order
from stages.flexrm.evaluate import CURATED, POOL, UNCURATED, by_pools, compared_rows
from stages.flexrm.figures import by_views, compared, parted, seen_from
from stages.flexrm.imperfect import disturbed
from stages.flexrm.make import curated_orbits, make_flexrm
from stages.flexrm.train import build, train_flexrm
from stages.objects.splits import HELD_OUT, TRAIN
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.reconstruction.data import rendered_orbits
from stages.rendering.config import RenderingConfig
from stages.rendering.manifest import write_manifest
from stages.rendering.rings import RingsConfig, on_rings
from stages.rendering.views import render_shard
from stages.shards import Sample, read_shard, write_shard
from tests.stages.blocks import write_blocks

SIZE = 16
ENCODER = EncoderConfig(image_size=SIZE, table_size=SIZE, patch=4, width=12, layers=1, heads=2)  # pyright: ignore
MODEL = FlexRMConfig(  # pyright: ignore
    encoder=ENCODER, camera_width=8, width=12, layers=1, heads=2, plane_tokens=4, channels=4, decoder_width=8,
    decoder_layers=2, samples=8, importance_samples=0, align=True, view_channels=4, view_depths=4, gaussians=6,
    box=0.82,
)  # fmt: skip
STAGE = {"steps": 4, "batch": 2, "learning_rate": 1e-2, "checkpoint_every": 2}
CONFIG = FlexRMTrainingConfig.model_validate(
    {
        "model": MODEL.model_dump(),
        "train_encoder": False,
        "volume": STAGE,
        "gaussians": STAGE,
        "draws": {"most": 4, "rays": 32, "side_views": 2, "curated": 0.5},
        "protocol": {"counts": [1, 2]},
        "export": {"mesh": {"grid": 16, "texture": None, "threshold": 0.05}, "turntable": {"frames": 4, "size": 16}},
    }
)


def silent(_: object) -> None:
    pass


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """Blocks on rings: manifest and shards."""
    folder = tmp_path_factory.mktemp("rings")
    table = write_blocks(folder, train=3, validation=0, held_out=2)
    rendering = on_rings(RingsConfig(azimuths=8), RenderingConfig(size=SIZE, supersampling=1))  # pyright: ignore
    (folder / "views" / "000").mkdir(parents=True)
    render_shard(table, folder, folder / "views" / "000", rendering, seed=0, report=silent)
    write_manifest(folder / "views", folder)
    save(Encoder(ENCODER), ENCODER, folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def pools(rings, tmp_path_factory):
    """Two curated pools with different numbers of views, and one that was turned away."""
    folder = tmp_path_factory.mktemp("pools")
    (folder / "000").mkdir()
    samples = list(read_shard(rings / "views" / "000" / "views.tar"))
    kept = [
        Sample(f"p{n}", s.views[: 5 - n], {**s.meta, "cameras": s.meta["cameras"][: 5 - n]})
        for n, s in enumerate(samples[:3])
    ]
    write_shard(folder / "000" / "curated.tar", kept)
    rows = [{"id": f"p{n}", "shard": "000", "verdict": REJECTED if n == 2 else ACCEPTED} for n in range(3)]
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    return folder


def orbits(rings, split=TRAIN):
    return rendered_orbits(pl.read_parquet(rings / "manifest.parquet"), rings / "views", split)


@given(most=st.integers(1, 32), seed=st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_the_number_of_views_lies_between_one_and_most(most, seed):
    assert 1 <= draw_count(most, torch.Generator().manual_seed(seed)) <= most


def test_few_views_are_drawn_as_often_as_many():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw_count(32, generator) for _ in range(4000)])
    assert set(drawn.tolist()) == set(range(1, 33))
    assert 0.15 < float((drawn == 1).float().mean()) < 0.25  # ln 2 / ln 33
    assert 0.15 < float((drawn > 16).float().mean()) < 0.25


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_shows_its_objects_and_supervises_with_other_views(rings, seed):
    """Each supervised pixel's ray leads where the picture at its camera shows just that: told through projection."""
    found = draw_views(orbits(rings), 3, CONFIG.draws, torch.Generator().manual_seed(seed))
    inputs = found.rays.source.pose.shape[1]
    assert found.rays.image.shape == (3, inputs, 3, SIZE, SIZE)
    assert found.rgb.shape == (3, 2, 3, SIZE, SIZE)
    first = found.rays.source.pose[:, 0, :3, 3]
    torch.testing.assert_close(first[:, 1], torch.zeros(3), atol=1e-5, rtol=0)
    assert (first[:, 0] > 0).all()
    for row in range(3):
        apart = torch.cdist(found.rays.source.pose[row, :, :3, 3], found.cameras.pose[row, :, :3, 3])
        assert apart.min() > 1e-3
    points = found.rays.origins + found.rays.directions
    for row in range(3):
        for k in range(2):
            own = (found.rays.origins[row] - found.cameras.pose[row, k, :3, 3]).norm(dim=-1) < 1e-5
            u, v, _ = found.cameras[row, k].project(points[row][own]).unbind(-1)
            colours = found.rgb[row, k][:, (v * SIZE).long(), (u * SIZE).long()].T
            torch.testing.assert_close(colours, found.rays.rgb[row][own])


def test_a_mirrored_object_is_one_that_could_stand_there(rings):
    """Mirrored views with mirrored cameras: a carved hull of all of them is not empty, one of mixed ones is."""
    config = ViewDrawConfig(most=1, side_views=24, rays=8, permute_colours=False)  # pyright: ignore
    some = orbits(rings)
    for seed in range(4):
        found = draw_views(some, 1, config, torch.Generator().manual_seed(seed))
        line = torch.linspace(-0.8, 0.8, 24)
        grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(-1, 3)
        u, v, _ = found.cameras[0].project(grid).unbind(-1)
        place = (v * SIZE).long().clamp(0, SIZE - 1) * SIZE + (u * SIZE).long().clamp(0, SIZE - 1)
        inside = (found.alpha[0].flatten(1).gather(1, place) > 0.1).float().mean(0)
        hull = inside == 1
        assert hull.float().mean() > 0.01
        # the hull fills the silhouettes: cameras that did not fit would carve most of it away
        for k in (0, 11, 23):
            filled = torch.zeros(SIZE * SIZE).index_fill(0, place[k][hull], 1.0)
            covered = found.alpha[0, k].flatten() > 0.9
            assert (filled * covered).sum() / covered.sum() > 0.6


def test_views_are_spread_before_they_are_many(rings):
    cameras = orbits(rings).cameras[0]
    allowed = list(range(0, 32, 2))
    order = spread_order(cameras, 8, allowed)
    assert order[0] == 8
    assert sorted(order) == allowed
    place = cameras.pose[:, :3, 3]
    assert torch.nn.functional.cosine_similarity(place[order[0]], place[order[1]], dim=0) < -0.5


def test_no_view_is_input_and_truth_at_once(rings):
    protocol = ViewsProtocolConfig.model_validate({})
    inputs, targets = parted(orbits(rings, HELD_OUT), protocol)
    assert len(inputs) == 16
    assert len(targets) == 8
    assert not set(inputs) & set(targets)
    assert inputs[0] == 8 + 4  # elevation 6, and of the even steps (90 degrees apart here) the nearest to 225


def cloud(n=4000) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.rand(n, 3, generator=generator) * 1.6 - 0.8,
        torch.full((n, 3), 0.02),
        torch.tensor([1.0, 0, 0, 0]).repeat(n, 1),
        torch.rand(n, generator=generator),
        torch.rand(n, 3, generator=generator),
    )


def test_a_disturbance_is_local_and_leaves_the_clean_gaussians_alone():
    clean, generator = cloud(), torch.Generator().manual_seed(1)
    before = replace(clean, positions=clean.positions.clone(), colours=clean.colours.clone())
    config = ImperfectConfig(cubes=2, side=0.5, shift=0.05, colour=0.3, lost=0.3)  # pyright: ignore
    cubes, each = torch.randn(2, 7, generator=generator), torch.randn(4000, 4, generator=generator)
    found = disturbed(clean, config, 0.8, cubes, each)
    moved = (found.positions - clean.positions).norm(dim=-1) > 0
    assert 20 < int(moved.sum()) < 2000
    spread = clean.positions[moved]
    nearest = torch.cdist(spread, spread).topk(2, largest=False).values[:, 1]
    assert nearest.max() < 0.4  # together in cubes, not strewn about
    assert (found.opacities[~moved] == clean.opacities[~moved]).all()
    assert (found.opacities[moved] == 0).float().mean() == pytest.approx(0.3, abs=0.2)
    torch.testing.assert_close(clean.positions, before.positions)
    torch.testing.assert_close(clean.colours, before.colours)


def test_nothing_that_is_seen_means_nothing_to_disturb():
    clean = replace(cloud(), opacities=torch.zeros(4000))
    found = disturbed(clean, ImperfectConfig.model_validate({}), 0.8, torch.randn(3, 7), torch.randn(4000, 4))
    assert found is clean


def test_pools_of_different_sizes_become_orbits_and_refused_ones_stay_out(pools):
    found = curated_orbits(pl.read_parquet(pools / "manifest.parquet"), pools, 0.08)
    assert found is not None
    assert found.ids == ("p0", "p1")
    assert found.rgb.shape == (2, 5, 3, SIZE, SIZE)
    torch.testing.assert_close(found.rgb[1, 4], found.rgb[1, 0])  # four views, the first again
    torch.testing.assert_close(found.cameras[1, 4].pose, found.cameras[1, 0].pose)
    none = pl.read_parquet(pools / "manifest.parquet").with_columns(verdict=pl.lit(REJECTED))
    assert curated_orbits(none, pools, 0.08) is None


def trained(rings, scratch, config=CONFIG, **more):
    model = build(rings / "encoder", config, 0)
    curve = train_flexrm(model, orbits(rings), None, config, seed=0, scratch=scratch, report=silent, **more)
    return model, curve


def test_training_has_two_stages_and_leaves_the_base_encoder(rings, tmp_path):
    model, curve = trained(rings, tmp_path)
    assert {name.split("/")[0] for name in curve["name"]} == {"volume", "gaussians"}
    base = build(rings / "encoder", CONFIG, 0)
    for (name, now), (_, then) in zip(model.encoder.named_parameters(), base.encoder.named_parameters(), strict=True):
        assert torch.equal(now, then) != name.startswith("modulation"), name
    assert not torch.equal(model.splats.shape.weight, base.splats.shape.weight)
    assert not torch.equal(model.splats.decoder.net[0].weight, model.synthesizer.decoder.net[0].weight)  # pyright: ignore


def test_an_interrupted_training_ends_with_the_same_weights(rings, tmp_path):
    whole, _ = trained(rings, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(facts):
        if facts.get("step") == 3:
            raise KilledError

    model = build(rings / "encoder", CONFIG, 0)
    with pytest.raises(KilledError):
        train_flexrm(model, orbits(rings), None, CONFIG, seed=0, scratch=tmp_path / "cut", report=kill)
    resumed, _ = trained(rings, tmp_path / "cut")
    for (name, one), (_, other) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_another_encoder_than_the_presets_is_refused(rings, tmp_path):
    other = ENCODER.model_copy(update={"layers": 2})
    save(Encoder(other), other, tmp_path)
    with pytest.raises(ValueError, match="make them agree"):
        build(tmp_path, CONFIG, 0)


def test_the_asset_can_be_loaded_used_and_written(rings, pools, tmp_path):
    output, scratch = tmp_path / "flexrm", tmp_path / "scratch"
    output.mkdir()
    make_flexrm(
        rings / "manifest.parquet", rings / "views", pools / "manifest.parquet", pools, rings / "encoder",
        output, scratch, CONFIG, 0.08, seed=0, report=silent,
    )  # fmt: skip
    assert {path.name for path in output.iterdir()} == {
        "config.json", "model.safetensors", "training.parquet", "asset.glb", "splats.ply", "turntable.mp4",
    }  # fmt: skip
    assert is_flexrm(output)
    reconstruct = load_flexrm(output, config=CONFIG.export)
    held_out = orbits(rings, HELD_OUT)
    made = reconstruct.from_views(held_out.rgb[0, :3].float() / 255, held_out.cameras[0, :3])
    assert made.extras["views"] == 3
    assert made.write_splats(tmp_path / "a.ply").read_bytes().startswith(b"ply")
    one = reconstruct.seen_by(held_out.rgb[0, 0].float() / 255, held_out.cameras[0, 0])
    assert one.extras["views"] == 1
    with pytest.raises(InputError, match="holds no FlexRM"):
        load_flexrm(rings / "encoder")
    assert not is_flexrm(rings / "encoder")


def test_figures_have_a_row_for_every_object_and_number(rings, tmp_path):
    model, _ = trained(rings, tmp_path)
    found = by_views(model.eval(), orbits(rings, HELD_OUT), CONFIG.protocol)
    assert found.group_by("views").len()["len"].to_list() == [2] * 2
    assert found["foreground_psnr"].is_finite().all()
    assert set(found["views"]) == {1, 2}


def test_pools_are_compared_with_what_the_same_views_give_and_curation_that_keeps_all_changes_nothing(rings, tmp_path):
    model, _ = trained(rings, tmp_path)
    some = orbits(rings, HELD_OUT)
    protocol = CONFIG.protocol.model_copy(update={"pools": 2})
    table = pl.read_parquet(rings / "manifest.parquet")
    pools = list(ring_pools(table, rings / "views", HELD_OUT, RingsConfig(azimuths=8)))  # pyright: ignore
    assert [pool.id for pool in pools] == list(some.ids)
    everything = lambda pool: range(len(pool.views))  # noqa: E731
    found, kept = by_pools(model.eval(), some, pools, protocol, everything, seed=0, report=silent)
    assert found.group_by("inputs").len()["len"].to_list() == [4, 4, 4]
    assert kept["spoiled"].to_list() == [6] * 4
    assert kept["spoiled_kept"].to_list() == [6] * 4
    assert found["views"].to_list() == found["given"].to_list() == [12] * 12
    values = {name: part.sort("id", "pool")["psnr"] for (name,), part in found.group_by("inputs")}
    assert values[CURATED].to_list() == values[UNCURATED].to_list()
    assert values[POOL].to_list() != values[UNCURATED].to_list()
    # the same views out of the rings: of four of 8 the first each, then once around the second
    views = [8, 0, 8, 16, 24, *range(9, 16)]
    inputs, targets = parted(some, protocol)
    targets = [view for view in targets if not 8 <= view < 16]
    cameras = some.cameras[0]
    own = seen_from(model, some.rgb[0, views].float() / 255, cameras[views], cameras[targets])
    one = replace(some, rgb=some.rgb[:1], alpha=some.alpha[:1], cameras=some.cameras[:1], ids=some.ids[:1])
    expected = float(compared(one, inputs[0], targets, [own])["psnr"][0])
    made = found.filter((pl.col("inputs") == POOL) & (pl.col("id") == some.ids[0]))["psnr"]
    assert made.to_list() == pytest.approx([expected] * 2, abs=0.01)


def test_no_more_objects_are_compared_than_wanted_whatever_the_order_of_the_rows():
    splits = [HELD_OUT, HELD_OUT, TRAIN, HELD_OUT]
    table = pl.DataFrame({"id": list("abcd"), "split": splits, "reason": [None, None, None, "empty views"]})
    assert set(compared_rows(table, None)["id"]) == {"a", "b"}
    one = compared_rows(table, 1)["id"].to_list()
    assert len(one) == 1
    assert compared_rows(table.reverse(), 1)["id"].to_list() == one


def test_a_training_on_pools_alone_does_not_look_at_rings(rings, pools, tmp_path):
    curated = curated_orbits(pl.read_parquet(pools / "manifest.parquet"), pools, 0.08)
    config = CONFIG.model_copy(update={"draws": CONFIG.draws.model_copy(update={"curated": 1.0})})
    broken = orbits(rings)
    broken = replace(broken, cameras=Camera(broken.cameras.pose * np.nan, broken.cameras.intrinsics))
    model = build(rings / "encoder", config, 0)
    curve = train_flexrm(model, broken, curated, config, seed=0, scratch=tmp_path, report=silent)
    assert curve["value"].is_finite().all()
