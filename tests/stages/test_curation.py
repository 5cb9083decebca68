"""Curation of candidate views: spoils, support, selection, queries, and a shard from end to end."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from models.camera import Camera
from stages.candidates.pool import Pool
from stages.curation.config import CurationConfig, SupportConfig
from stages.curation.curate import FRONT, POOLS, VIEWS, Curator, chosen, curate_shard, load_curator
from stages.curation.manifest import curated_manifest
from stages.curation.picture import row, sheet
from stages.curation.placing import angles_between, directions, shared
from stages.curation.selection import kept, relative
from stages.curation.spoils import FAR, SPOILS, VISIBLE, spoiled
from stages.curation.support import support
from stages.curation.trial import trial
from stages.quality.classifier import fit_judge, save_classifier
from stages.quality.config import QualityConfig
from stages.quality.features import load_embedder
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.quality.observe import observe
from stages.shards import Sample, read_shard, write_shard
from tests.stages.pools import block_pools, seeded

QUALITY = QualityConfig.model_validate({"elevation": {"views": 8}})
CURATION = CurationConfig.model_validate({"matcher": {"kind": "tokens", "size": 64, "layer": 0}})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, encoder):
    """Taught on a few clips of blocks: whole ones are good, frozen and shuffled ones are not."""
    clips, good = [], []
    for pool in block_pools():
        views = pool.sample().views[list(pool.clip)[::2]]
        meta = {"cameras": []}
        for number, order in enumerate((np.arange(8), np.zeros(8, int), seeded("order").permutation(8))):
            clips += [
                Sample(f"{pool.id}{number}", views[order], meta),
                Sample(f"{pool.id}{number}", views[order], meta),
            ]
            good += [number == 0] * 2
    seen = observe(load_embedder(QUALITY.features, encoder), clips, QUALITY)
    folder = tmp_path_factory.mktemp("classifier")
    judge = fit_judge(seen, np.array(good), QUALITY.classifier)
    save_classifier(replace(judge, config=judge.config.model_copy(update={"threshold": 0.5})), folder)
    return folder


@pytest.fixture(scope="module")
def curator(classifier, encoder) -> Curator:
    return load_curator(classifier, encoder, CURATION, QUALITY)


def only(pool: Pool, places: list[int]) -> Pool:
    return replace(
        pool,
        views=pool.views[places],
        cameras=pool.cameras[places],
        sources=tuple(pool.sources[k] for k in places),
        clip=tuple(range(len(places))),
    )


# spoils


@pytest.mark.parametrize("kind", SPOILS)
def test_a_spoil_shows_and_spares_the_front(kind):
    first, *others = block_pools()
    pool, which = spoiled(first, seeded(kind), 0.5, others=others, kinds=(kind,))
    changed = (pool.views != first.views).flatten(1).any(1)
    assert set(np.flatnonzero(changed.numpy())) == set(which)
    assert set(which.values()) == {kind}
    assert not changed[shared(first)].any()
    assert pool.views.min() >= 0
    assert pool.views.max() <= 1
    for view in which:
        both = torch.minimum(pool.views[view], first.views[view]).amin(0) < 0.92
        assert (pool.views[view] - first.views[view]).abs().mean(0)[both].mean() >= VISIBLE


def test_spoils_are_what_they_say():
    first, second, _ = block_pools()
    angles = angles_between(first.cameras)

    def of(kind, others=()):
        return spoiled(first, seeded("say", kind), 0.5, others=others, kinds=(kind,))

    pool, which = of("mirrored")
    assert all(torch.equal(pool.views[k], first.views[k].flip(-1)) for k in which)
    pool, which = of("another_object", [second])
    assert all(torch.equal(pool.views[k], second.views[k]) for k in which)
    pool, which = of("front_again")
    assert which
    assert all(torch.equal(pool.views[k], first.views[first.front]) and angles[k, first.front] >= FAR for k in which)
    pool, which = of("wrong_azimuth")
    for k in which:
        same = [j for j in range(20) if torch.equal(pool.views[k], first.views[j])]
        assert max(float(angles[k, j]) for j in same) >= FAR
    pool, which = of("parts_missing")
    for k in which:
        was, left = ((views[k].amin(0) < 0.92).sum() for views in (first.views, pool.views))
        assert 0.4 < left / was < 0.8


def test_half_of_the_views_are_spoiled_and_the_seed_decides():
    first, *others = block_pools()
    one, again, other = (spoiled(first, seeded(name), others=others) for name in ("a", "a", "b"))
    assert len(one[1]) == 10
    assert one[1] == again[1]
    assert torch.equal(one[0].views, again[0].views)
    assert one[1] != other[1]
    assert spoiled(first, seeded("none"), 0.0)[1] == {}
    assert "another_object" not in spoiled(first, seeded("alone"))[1].values()


# where views stand


def test_places_are_those_that_were_asked_for():
    pool = block_pools()[0]
    azimuths, elevations = directions(pool.cameras)
    torch.testing.assert_close(elevations[:4], torch.tensor([-18.0, 6, 18, 30]), atol=1e-3, rtol=0)
    torch.testing.assert_close(azimuths[4:], torch.arange(16) * 22.5, atol=1e-3, rtol=0)
    assert shared(pool).nonzero().flatten().tolist() == [1, 4]
    assert pool.back == 12
    assert angles_between(pool.cameras)[4, 12] == pytest.approx(168, abs=0.1)


# selection


values = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1e4, allow_subnormal=False))


@given(values, st.floats(0, 3), st.floats(0, 1))
def test_the_best_is_kept_and_order_decides(counts, spread, faultless):
    score = relative(counts, np.ones(len(counts)), faultless)
    keep = kept(score, spread)
    assert keep[counts.argmax()]
    assert not keep.all() or keep[counts.argmin()]
    for a, b in zip(np.argsort(counts)[:-1], np.argsort(counts)[1:], strict=True):
        assert keep[a] <= keep[b]  # what is kept with fewer is kept with more


@given(values, st.floats(0.1, 100), st.floats(0, 1))
def test_units_do_not_matter(counts, factor, faultless):
    weights = np.ones(len(counts))
    np.testing.assert_allclose(
        relative(counts, weights, faultless), relative(factor * counts, weights, faultless), atol=1e-5
    )


@given(values)
def test_without_a_floor_it_is_mean_and_standard_deviation(counts):
    if counts.std() > 1e-6 * max(counts.mean(), 1):
        expected = counts >= counts.mean() - 0.6 * counts.std() - 1e-9 * counts.std()
        np.testing.assert_array_equal(kept(relative(counts, np.ones(len(counts)), 0.0), 0.6), expected)


@given(st.floats(0, 100), st.integers(1, 10), st.floats(0, 1))
def test_equal_counts_are_all_kept(value, count, faultless):
    assert kept(relative(np.full(count, value), np.ones(count), faultless), 0.0).all()


def test_what_weighs_nothing_does_not_shift_the_mean():
    counts, weights = np.array([10.0, 12, 8, 1000]), np.array([1.0, 1, 1, 0])
    np.testing.assert_allclose(relative(counts, weights, 0.0)[:3], relative(counts[:3], np.ones(3), 0.0))
    assert (relative(counts, np.zeros(4), 0.3) == 0).all()


# support


def alone(pool: Pool) -> np.ndarray:
    front = np.arange(len(pool.views)) == pool.front
    return support(pool.views, pool.cameras, shared(pool).numpy(), front, SupportConfig.model_validate({})).share


def test_true_views_support_one_another_and_spoiled_ones_do_not():
    assert alone(block_pools()[0]).min() > 0.4
    good, scores = [], []
    for pool in block_pools():
        rest = [other for other in block_pools() if other.id != pool.id]
        for repeat in range(2):
            made, which = spoiled(pool, seeded("auc", pool.id, repeat), others=rest)
            found = alone(made)
            for view in np.flatnonzero(~shared(pool).numpy()).tolist():
                good.append(view not in which)
                scores.append((found[view] - found.mean()) / found.std())
    assert roc_auc_score(good, scores) >= 0.9


def test_support_does_not_depend_on_the_order_of_views():
    pool = block_pools()[0]
    order = seeded("order").permutation(20)
    mixed = replace(
        pool,
        views=pool.views[order],
        cameras=pool.cameras[order],
        sources=tuple(pool.sources[k] for k in order),
        clip=tuple(int(np.flatnonzero(order == place)[0]) for place in pool.clip),
    )
    np.testing.assert_allclose(alone(mixed), alone(pool)[order], atol=1e-9)


def test_support_does_not_depend_on_where_azimuth_begins():
    pool = block_pools()[0]
    turned = pool.cameras.relative_to(pool.cameras[pool.front], azimuth=77.0)
    assert np.abs(alone(replace(pool, cameras=turned)) - alone(pool)).max() < 0.1  # pixels fall a little otherwise


def test_larger_pictures_are_compared_at_the_same_size():
    pool = block_pools()[0]
    large = replace(pool, views=pool.views.repeat_interleave(4, -1).repeat_interleave(4, -2))
    assert np.abs(alone(large) - alone(pool)).max() < 0.15
    assert np.corrcoef(alone(large), alone(pool))[0, 1] > 0.9


def test_one_view_alone_and_two_that_are_one():
    pool = block_pools()[0]
    assert alone(only(pool, [4])).tolist() == [1.0]
    np.testing.assert_allclose(alone(only(pool, [4, 1])), [1.0, 1.0])
    blank = replace(pool, views=torch.ones_like(pool.views))
    assert np.isfinite(alone(blank)).all()


# a pool


def test_every_view_has_its_counts_its_verdict_and_why(curator):
    first, *others = block_pools()
    pool, which = spoiled(first, seeded("pool"), others=others)
    found = curator(pool)
    assert found.views.schema == pl.Schema(VIEWS)
    assert len(found.views) == 20
    assert (found.views["verdict"] == ACCEPTED).to_list() == found.kept.tolist()
    assert found.kept[pool.front]
    assert found.views["reason"][pool.front] == FRONT
    assert found.views["reason"].null_count() == 0
    assert found.views["source"].to_list() == list(pool.sources)
    wrong, right = (found.kept[[k for k in range(20) if (k in which) == it]].mean() for it in (True, False))
    assert right > wrong + 0.3
    assert set(found.seconds) == {"back", "describe", "match", "support", "select"}


def test_a_pool_is_curated_alike_each_time(curator):
    pool = block_pools()[1]
    assert curator(pool).views.equals(curator(pool).views)


def test_the_back_is_a_query_when_the_clip_is_good_and_the_back_holds(curator):
    pool = block_pools()[0]
    lenient = curator.judge.config.model_copy(update={"threshold": 0.0, "overlap": 0.0, "sharpness": 0.0})
    passed = replace(curator, judge=replace(curator.judge, config=lenient))(pool)
    assert passed.back.passed
    assert passed.views["matches_back"].null_count() == 0
    assert passed.views["matches_back"][pool.back] == passed.views["matches_back"].max()
    for strict, told in (
        ({"threshold": 1.0}, "score"),
        ({"sharpness": 9.0}, "sharpness"),
    ):
        judge = replace(curator.judge, config=lenient.model_copy(update=strict))
        failed = replace(curator, judge=judge)(pool)
        assert not failed.back.passed
        assert told in failed.back.reason
        assert failed.views["matches_back"].null_count() == 20
    views = pool.views.clone()
    views[pool.back, :, :, 16:] = 1  # half of it is gone
    strict = lenient.model_copy(update={"overlap": 0.6})
    failed = replace(curator, judge=replace(curator.judge, config=strict))(replace(pool, views=views))
    assert not failed.back.passed
    assert "overlap" in failed.back.reason


def test_by_matches_the_rule_is_the_papers(curator):
    pool = block_pools()[2]
    lenient = curator.judge.config.model_copy(update={"threshold": 0.0, "overlap": 0.0, "sharpness": 0.0})
    config = CURATION.model_copy(update={"by": "matches", "faultless": 0.0})
    found = replace(curator, judge=replace(curator.judge, config=lenient), config=config)(pool)
    expected = shared(pool).numpy()
    for name, query in (("matches_front", pool.front), ("matches_back", pool.back)):
        counts = found.views[name].to_numpy()
        others = counts[~shared(pool).numpy() & (np.arange(20) != query)]
        expected = expected | (counts >= others.mean() - 0.6 * others.std())
    np.testing.assert_array_equal(found.kept, expected)  # the union over the queries


def test_a_clip_that_fails_and_a_pool_without_one(curator):
    pool = block_pools()[0]
    frozen = replace(pool, views=pool.views[4:5].repeat(20, 1, 1, 1))
    assert curator(frozen).kept[pool.front]
    single = curator(only(pool, [4]))
    assert single.kept.tolist() == [True]
    assert "no orbit" in single.back.reason
    pair = curator(only(pool, [4, 1]))
    assert pair.kept.tolist() == [True, True]


def test_pools_that_cannot_be_used_are_refused(curator):
    pool = block_pools()[0]
    pose = pool.cameras.pose.clone()
    pose[3] = float("nan")
    for broken, told in (
        (replace(pool, clip=(4, 99)), "99"),
        (replace(pool, clip=()), "clip"),
        (replace(pool, sources=pool.sources[1:]), "19 sources"),
        (replace(pool, cameras=Camera(pose, pool.cameras.intrinsics)), "not finite"),
    ):
        with pytest.raises(ValueError, match=told):
            curator(broken)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 19)))
def test_what_is_kept_is_a_pool_that_a_shard_can_hold(places):
    pool = block_pools()[0]
    keep = np.isin(np.arange(20), [pool.front, *places])
    part = Pool.of(chosen(pool, keep).sample())
    assert torch.equal(part.views, Pool.of(pool.sample()).views[keep])
    torch.testing.assert_close(part.cameras.pose, pool.cameras.pose[keep])
    assert torch.equal(part.views[part.front], Pool.of(pool.sample()).views[pool.front])
    assert part.meta["kept"] == np.flatnonzero(keep).tolist()
    assert len(part.meta["elevations"]) == len(part.sources) == len(part.views)


# a shard


@pytest.fixture
def candidates(tmp_path):
    """Three pools, one of another size; one sample that is no pool, one whose clip is nonsense; one lost before."""
    folder = tmp_path / "candidates" / "p000"
    folder.mkdir(parents=True)
    pools = [replace(pool, id=f"p{number}", meta={"caption": "a block"}) for number, pool in enumerate(block_pools())]
    large = pools[2].views.repeat_interleave(2, -1).repeat_interleave(2, -2)
    samples = [pools[0].sample(), pools[1].sample(), replace(pools[2], views=large).sample()]
    no_pool = replace(pools[0].sample(), id="p3")
    no_pool = replace(no_pool, meta={key: value for key, value in no_pool.meta.items() if key != "clip"})
    write_shard(folder / "candidates.tar", [*samples, no_pool, replace(pools[0], id="p4", clip=(77,)).sample()])
    lost = pl.DataFrame({"id": ["p5"], "reason": ["no first picture"]})
    lost.write_parquet(folder / "quarantine.parquet")
    return folder


def test_a_shard_loses_nothing(candidates, classifier, encoder, tmp_path):
    output = tmp_path / "curated" / "p000"
    curate_shard(candidates, classifier, encoder, output, CURATION, QUALITY, seed=0, report=lambda _: None)
    views, pools = (pl.read_parquet(output / f"{name}.parquet") for name in ("views", "pools"))
    assert (views.schema, pools.schema) == (pl.Schema(VIEWS), pl.Schema(POOLS))
    assert pools["pool"].to_list() == ["p0", "p1", "p2"]
    assert len(views) == 60
    lost = dict(pl.read_parquet(output / "quarantine.parquet").iter_rows())
    assert set(lost) == {"p3", "p4", "p5"}
    assert "no pool of candidate views" in lost["p3"]
    assert "77" in lost["p4"]
    assert lost["p5"] == "no first picture"
    for sample in read_shard(output / "curated.tar"):
        places = views.filter((pl.col("pool") == sample.id) & (pl.col("verdict") == ACCEPTED))["view"].to_list()
        assert sample.meta["kept"] == places
        assert len(sample.views) == len(places)
        assert sample.meta["caption"] == "a block"

    picture = sheet(candidates / "candidates.tar", views)
    assert picture.size == (20 * 64, 3 * 88)

    report: list[dict] = []
    curated_manifest(output.parent, tmp_path / "manifest", CURATION, report=report.append)
    manifest = pl.read_parquet(tmp_path / "manifest" / "manifest.parquet")
    assert manifest["id"].to_list() == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert manifest["verdict"].to_list() == [ACCEPTED] * 3 + [REJECTED] * 3
    assert manifest["reason"].null_count() == 0
    assert report[-1]["metrics"]["quarantined"] == 3
    assert report[-1]["metrics"]["kept"] == pools["kept"].sum()


def test_bytes_repeat(candidates, classifier, encoder, tmp_path):
    for name in ("one", "two"):
        curate_shard(candidates, classifier, encoder, tmp_path / name, CURATION, QUALITY, seed=0, report=lambda _: None)
    for file in ("curated.tar", "views.parquet", "pools.parquet", "quarantine.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_shard_without_pools_is_empty_and_trains_nobody(classifier, encoder, tmp_path):
    folder, output = tmp_path / "candidates", tmp_path / "curated" / "p000"
    folder.mkdir()
    write_shard(folder / "candidates.tar", [])
    pl.DataFrame({"id": ["p0"], "reason": ["gone"]}).write_parquet(folder / "quarantine.parquet")
    curate_shard(folder, classifier, encoder, output, CURATION, QUALITY, seed=0, report=lambda _: None)
    assert pl.read_parquet(output / "views.parquet").is_empty()
    assert list(read_shard(output / "curated.tar")) == []
    with pytest.raises(ValueError, match="none of 1 pools"):
        curated_manifest(output.parent, tmp_path / "manifest", CURATION, report=lambda _: None)
    assert not (tmp_path / "manifest").exists()


def test_a_classifier_of_other_features_is_refused(candidates, classifier, encoder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for file in classifier.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text()) | {"embedding": 7}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trained on 7 embedding numbers"):
        curate_shard(candidates, other, encoder, tmp_path / "out", CURATION, QUALITY, seed=0, report=lambda _: None)
    assert not (tmp_path / "out" / "curated.tar").exists()


# figures


def test_a_picture_frames_what_was_turned_away(curator):
    first, *others = block_pools()
    pool, _ = spoiled(first, seeded("picture"), others=others)
    found = curator(pool)
    corners = np.asarray(row(pool, found.views))[0, ::64]
    assert (corners == (200, 0, 0)).all(1).tolist() == (~found.kept).tolist()


def test_a_trial_says_how_well_spoils_are_found(curator):
    found = trial(block_pools(), curator, seed=0, repeats=1)
    assert found.good + found.spoiled == 3 * 18
    assert found.spoiled == 30
    assert found.roc_auc["support"] >= 0.9
    assert found.roc_auc["support"] > found.roc_auc["matches"]
    assert found.good_kept > found.spoiled_kept
