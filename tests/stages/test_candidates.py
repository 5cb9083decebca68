"""Pools of candidate views: what is in them, what they depend on, and where prompts go that give none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from models.config import SamplingConfig
from models.video import build_video
from stages.candidates.config import CandidatesConfig
from stages.candidates.draw import Candidates, candidates_shard, pool_id
from stages.candidates.orbit import Orbit
from stages.candidates.pool import IMAGE, VIDEO, Pool
from stages.corpus.config import CorpusConfig
from stages.errors import InputError
from stages.shards import read_shard
from tests.models.test_svd import TINY as SMALL_SVD
from tests.stages.rings import RENDERING, SIZE, write_models
from tests.stages.rings import VIDEO as FRAMES
from tests.stages.test_rendering import row

CORPUS = CorpusConfig(steps=1, supersampling=1)  # pyright: ignore[reportCallIssue]
CONFIG = CandidatesConfig(views=8, steps=1, batch=2)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and two meshes."""
    from tests.stages.blocks import write_blocks

    root = tmp_path_factory.mktemp("candidates")
    write_models(root)
    write_blocks(root, train=2, validation=0, held_out=0)
    return root


def candidates(home: Path, **config: Any) -> Candidates:
    settings = CONFIG.model_copy(update=config)
    return Candidates(home / "multiview", home / "video", settings, CORPUS, RENDERING)


def prompts(*files: str) -> pl.DataFrame:
    facts = [
        {**row(f"p{i}", file), "text": "a red block", "object": "train0", "seed": i} for i, file in enumerate(files)
    ]
    return pl.DataFrame(facts)


MESHES = ("meshes/train0.glb", "meshes/train1.glb", "meshes/train0.glb")


def make(home: Path, output: Path, table: pl.DataFrame, **config: Any) -> Path:
    output.mkdir()
    settings = CONFIG.model_copy(update=config)
    candidates_shard(
        table, home, home / "multiview", home / "video", output, settings, CORPUS, RENDERING,
        seed=0, report=lambda event: None, versions={"multiview_model": "one", "video_model": "other"},
    )  # fmt: skip
    return output


def pools(folder: Path) -> dict[str, Pool]:
    return {sample.id: Pool.of(sample) for sample in read_shard(folder / "candidates.tar")}


def reasons(folder: Path) -> dict[str, str]:
    return dict(pl.read_parquet(folder / "quarantine.parquet").iter_rows())


def test_a_pool_is_four_views_and_an_orbit_that_share_one(home: Path) -> None:
    pictures = torch.rand(2, 3, SIZE, SIZE)
    first, second = candidates(home)(pictures, ["a", "b"], ["a red block", ""], 0)
    assert first.views.shape == (12, 3, SIZE, SIZE)
    assert first.sources == (IMAGE,) * 4 + (VIDEO,) * 8
    assert first.clip == tuple(range(4, 12))
    assert torch.equal(first.views[first.front], first.views[1])  # the second elevation is the orbit's
    assert not torch.equal(first.views[0], second.views[0])
    heights = torch.asin(first.cameras.pose[:, 2, 3] / RENDERING.radius).rad2deg()
    turns = torch.atan2(first.cameras.pose[:, 1, 3], first.cameras.pose[:, 0, 3]).rad2deg() % 360
    assert heights.tolist() == pytest.approx([-18, 6, 18, 30, *[6] * 8], abs=1e-3)
    assert turns.tolist() == pytest.approx([0] * 4 + [45 * k for k in range(8)], abs=1e-3)
    assert first.meta["azimuths"] == pytest.approx(turns.tolist(), abs=1e-3)
    assert float(first.meta["azimuths"][first.back]) == 180


def test_a_pool_follows_from_seed_id_and_picture(home: Path) -> None:
    make_pools, pictures = candidates(home), torch.rand(2, 3, SIZE, SIZE)
    one, other = make_pools(pictures, ["a", "b"], ["", ""], 0)
    for alone in (
        make_pools(pictures[1:], ["b"], [""], 0)[0],
        make_pools(pictures.flip(0), ["b", "a"], ["", ""], 0)[0],
    ):
        torch.testing.assert_close(alone.views, other.views, atol=1e-4, rtol=1e-4)
    assert torch.equal(make_pools(pictures, ["a", "b"], ["", ""], 0)[0].views, one.views)
    assert not torch.allclose(make_pools(pictures, ["a", "b"], ["", ""], 1)[0].views, one.views, atol=1e-3)
    assert not torch.allclose(make_pools(pictures, ["c", "b"], ["", ""], 0)[0].views, one.views, atol=1e-3)
    assert make_pools(pictures[:0], [], [], 0) == []


def test_pools_come_back_from_their_shard(home: Path, tmp_path: Path) -> None:
    made = make(home, tmp_path / "out", prompts(*MESHES))
    found = pools(made)
    assert list(found) == ["p0", "p1", "p2"]
    assert reasons(made) == {}
    pool = found["p1"]
    assert torch.equal(pool.views[pool.front], pool.views[1])
    again = Pool.of(pool.sample())
    assert torch.equal(again.views, pool.views)
    assert (again.sources, again.clip, again.meta) == (pool.sources, pool.clip, pool.meta)
    assert pool.meta["prompt"] == "p1"
    assert pool.meta["object"] == "train0"
    assert pool.meta["parents"] == ["0" * 32]
    assert pool.meta["sampling"]["views"] == {"steps": 1, "model": "one"}
    assert (pool.meta["sampling"]["orbit"]["model"], pool.meta["sampling"]["orbit"]["passes"]) == ("other", 2)


def test_a_shard_repeats_whatever_the_order_of_its_rows(home: Path, tmp_path: Path) -> None:
    table = prompts(*MESHES)
    one, two = make(home, tmp_path / "one", table), make(home, tmp_path / "two", table.reverse())
    assert (one / "candidates.tar").read_bytes() == (two / "candidates.tar").read_bytes()


def test_more_samples_are_more_pools(home: Path, tmp_path: Path) -> None:
    single, several = (
        make(home, tmp_path / "one", prompts(*MESHES)),
        make(home, tmp_path / "two", prompts(*MESHES), samples=3),
    )
    found = pools(several)
    assert sorted(found) == sorted(pool_id(f"p{k}", sample) for k in range(3) for sample in range(3))
    assert found["p0-2"].meta["prompt"] == "p0"
    assert not torch.equal(found["p0"].views, found["p0-1"].views)
    for id_, pool in pools(single).items():
        assert torch.equal(found[id_].views, pool.views), id_


def test_every_prompt_is_in_the_shard_or_has_a_reason(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "broken.glb").write_bytes(b"no mesh")
    table = prompts(MESHES[0], "broken.glb", "clips/theirs.tar", MESHES[1], MESHES[0])
    made = make(home, tmp_path / "out", table, prompts=3)
    assert list(pools(made)) == ["p0", "p3"]
    told = reasons(made)
    assert set(told) == {"p1", "p2", "p4"}
    assert told["p1"].startswith("no first frame: ")
    assert told["p2"].startswith("a clip from elsewhere")
    assert told["p4"] == "not asked for: candidates.prompts is 3"

    good = Orbit.__call__

    def spoiled(self: Orbit, first: torch.Tensor, ids: list[str], *rest: Any) -> torch.Tensor:
        views = good(self, first, ids, *rest)
        views[[id_ == "p0" for id_ in ids], 3] = torch.nan
        return views

    monkeypatch.setattr(Orbit, "__call__", spoiled)
    made = make(home, tmp_path / "spoiled", prompts(*MESHES))
    assert list(pools(made)) == ["p1", "p2"]
    assert reasons(made) == {"p0": "p0 holds numbers that are not finite"}

    def further(self: Orbit, first: torch.Tensor, ids: list[str], *rest: Any) -> torch.Tensor:
        views = spoiled(self, first, ids, *rest)
        views[[id_.endswith("-1") for id_ in ids]] = torch.nan
        return views

    monkeypatch.setattr(Orbit, "__call__", further)
    made = make(home, tmp_path / "samples", prompts(*MESHES), samples=2)
    assert list(pools(made)) == ["p1", "p2"]  # whose first pools are whole
    assert sorted(reasons(made)) == ["p0", "p0-1", "p1-1", "p2-1"]


def test_models_and_pictures_that_do_not_fit_are_told(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"orbit of 6 views is no whole number of passes of the 4 frames"):
        candidates(home, views=6)
    with pytest.raises(InputError, match=r"candidates.elevation 7 is none of \[-18.0, 6.0, 18.0, 30.0\]"):
        candidates(home, elevation=7.0)
    with pytest.raises(InputError, match=r"pictures of 3 x 8 x 8: the models take 3 x 16 x 16"):
        candidates(home)(torch.rand(1, 3, 8, 8), ["a"], [""], 0)
    build_video(FRAMES.model_copy(update={"size": 32})).save(tmp_path / "large")
    with pytest.raises(InputError, match=r"makes views of 16 px, .*large clips of 32 px; match the preset"):
        Candidates(home / "multiview", tmp_path / "large", CONFIG, CORPUS, RENDERING)


def test_passes_lie_between_one_another(home: Path) -> None:
    """A model's own number of frames is one pass; of a longer orbit every other view is that very clip."""
    first = torch.rand(1, 3, SIZE, SIZE)
    short, long = (
        Orbit(home / "video", views)(first, ["a"], 1, SamplingConfig.model_validate({}), 0) for views in (4, 8)
    )
    assert torch.equal(long[:, ::2], short)
    assert torch.equal(long[:, 0], first)
    assert not torch.allclose(long[:, 1::2], short)


def test_other_families_make_the_orbit_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    build_video(SMALL_SVD).save(tmp_path)
    orbit = Orbit(tmp_path, 6)
    assert (orbit.passes, orbit.size) == (1, SMALL_SVD.size)
    first = torch.rand(1, 3, orbit.size, orbit.size)
    views = orbit(first, ["a"], 1, SamplingConfig.model_validate({}), 0)
    assert views.shape == (1, 6, 3, orbit.size, orbit.size)
    assert torch.equal(views[:, 0], first)
