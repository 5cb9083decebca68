"""The checks on curated views, their preview, and their bench without a project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from orchestration import paths, pipeline
from orchestration.assets import curated_views, previews
from orchestration.cli.bench import flexrm_curation
from orchestration.errors import OrbitforgeError
from orchestration.steps import Work
from stages.candidates.pool import Pool
from stages.curation.curate import POOLS, QUARANTINE, VIEWS, chosen
from stages.quality.manifest import ACCEPTED, REJECTED
from stages.shards import write_shard
from tests.orchestration.test_assets import verdict
from tests.stages.pools import block_pools

KEPT = np.arange(20) % 4 == 0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One shard: a pool of which a quarter was kept, and one that gave no pool."""
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    monkeypatch.setattr(paths, "data", lambda: tmp_path)
    candidates, curated = (tmp_path / "tiny" / name / "p000" for name in ("candidate_views", "curated_views"))
    monkeypatch.setattr(curated_views, "_made", lambda: iter([("p000", curated)]))
    for folder in (candidates, curated):
        folder.mkdir(parents=True)
        pl.DataFrame({"id": ["lost"], "reason": ["no picture"]}, schema=QUARANTINE).write_parquet(
            folder / "quarantine.parquet"
        )
    pool = block_pools()[0]
    write_shard(candidates / "candidates.tar", [pool.sample()])
    write_shard(curated / "curated.tar", [chosen(pool, KEPT).sample()])
    views(pool, KEPT).write_parquet(curated / "views.parquet")
    pools = {"pool": pool.id, "back": False, "reason": "none", "views": 20, "kept": 5}
    pl.DataFrame([pools], schema=POOLS).write_parquet(curated / "pools.parquet")
    return tmp_path / "tiny"


def views(pool: Pool, keep: np.ndarray) -> pl.DataFrame:
    rows = [
        {
            "pool": pool.id,
            "view": view,
            "source": "video",
            "azimuth": 0.0,
            "elevation": 6.0,
            "matches_front": 7,
            "support": 0.5,
            "verdict": ACCEPTED if kept else REJECTED,
            "reason": "r",
        }
        for view, kept in enumerate(keep)
    ]
    return pl.DataFrame(rows, schema=VIEWS)


def test_every_candidate_is_accounted_for(home: Path) -> None:
    found = verdict(curated_views.every_candidate_accounted_for)
    assert found.passed, found.description
    assert found.metadata["quarantined"].value == 1


def test_candidates_without_a_verdict_are_named(home: Path) -> None:
    table = home / "curated_views" / "p000" / "views.parquet"
    pl.read_parquet(table).head(19).write_parquet(table)
    found = verdict(curated_views.every_candidate_accounted_for)
    assert not found.passed
    assert f"first {block_pools()[0].id}" in str(found.description)


def test_views_that_were_not_accepted_are_not_in_the_tar(home: Path) -> None:
    pool = block_pools()[0]
    write_shard(home / "curated_views" / "p000" / "curated.tar", [pool.sample()])
    found = verdict(curated_views.every_candidate_accounted_for)
    assert "holds other views than were accepted" in str(found.description)


def test_what_was_quarantined_before_is_carried_along(home: Path) -> None:
    pl.DataFrame(schema=QUARANTINE).write_parquet(home / "curated_views" / "p000" / "quarantine.parquet")
    found = verdict(curated_views.every_candidate_accounted_for)
    assert "lost was quarantined before and is lost now" in str(found.description)


@pytest.mark.parametrize(("keep", "passed"), [(KEPT, True), (np.arange(20) == 4, False), (np.ones(20, bool), False)])
def test_the_kept_share_lies_in_a_band(home: Path, keep: np.ndarray, passed: bool) -> None:
    views(block_pools()[0], keep).write_parquet(home / "curated_views" / "p000" / "views.parquet")
    assert verdict(curated_views.share_of_kept_views).passed == passed


def test_the_preview_is_a_row_a_pool(home: Path, tmp_path: Path) -> None:
    where = {"inputs": {}, "output": home / "curated_views" / "p000", "scratch": tmp_path / "scratch"}
    work = Work("toy", None, preset=pipeline.current().preset, seed=0, report=lambda _: None, **where)
    previews.curated(work, home / "candidate_views" / "p000" / "candidates.tar")
    assert Image.open(tmp_path / "scratch" / "preview" / "curated.png").size == (20 * 64, 88)
    assert "| video | 6 | 0 | 0.25 | 0.5 | 20 |" in (tmp_path / "scratch" / "preview" / "kept_by_place.md").read_text()


def test_without_a_project_the_bench_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    monkeypatch.setattr(paths, "data", lambda: tmp_path)
    with pytest.raises(OrbitforgeError, match="quality_classifier is missing"):
        list(flexrm_curation.rows(print))
