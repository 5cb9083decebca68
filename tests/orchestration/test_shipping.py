"""What ships: the source data, the base weights, and of the ledger only what is about them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration import pipeline, shipping
from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import Ledger
from orchestration.pipeline import Pipeline
from orchestration.resources.store import recorded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(world, monkeypatch):
    """The toy world whose model ships, made; the sample remote is a folder of its own."""
    steps = tuple(replace(s, job="base") if s.name == "model" else s for s in world.pipeline.steps)
    world.pipeline = Pipeline(world.pipeline.preset, steps)
    monkeypatch.setattr(pipeline, "current", lambda: world.pipeline)
    monkeypatch.setattr(shipping, "SHIPPED", ("source", "model", "ledger"))
    (world.root / "workspace.yaml").touch()
    (world.root / "dvc-sample").mkdir()
    config = (world.root / ".dvc" / "config").read_text()
    (world.root / ".dvc" / "config").write_text(config + "['remote \"sample\"']\n    url = ../dvc-sample\n")
    world.make("views", "manifest", "model", "clips")
    return world


def test_only_the_rows_of_what_ships_are_shipped(shop):
    rows = shipping.shipped_rows(Ledger().read())
    assert set(rows["asset"]) == {"model", "manifest"}
    shop.edit("toy.helper", '" ".join', '"_".join')
    shop.make("views", "manifest", "model")
    newer = shipping.shipped_rows(Ledger().read())
    assert newer.filter(asset="model").height == 1
    assert set(newer["id"]).isdisjoint(rows["id"])


def test_the_pointer_names_what_ships_and_the_remote_holds_it(shop):
    shipping.ship()
    assert {path.partition("/")[0] for path in recorded()} == {"source", "model", "ledger"}
    blobs = {file.parent.name + file.name for file in (shop.root / "dvc-sample").rglob("*") if file.is_file()}
    assert set(recorded().values()) <= blobs
    assert (shop.data / "toy" / "views").is_dir()  # what does not ship stays


def test_an_example_brings_all_rows_above_it_and_the_tables_it_learned_from(shop, monkeypatch):
    monkeypatch.setattr(shipping, "EXAMPLE", "toy/manifest")
    shipping.ship()
    rows = shipping.shipped_rows(Ledger().read())
    assert {"manifest", "views", "source_objects"} <= set(rows["asset"])
    named = recorded()
    assert any(path.startswith("toy/manifest/") for path in named)
    assert not any(path.startswith("toy/views/") for path in named)
    tables = [path for path in named if path.startswith("provenance/source_objects-")]
    assert tables


def test_nothing_ships_by_halves(shop, monkeypatch):
    monkeypatch.setattr(shipping, "SHIPPED", ("source", "labels", "ledger"))
    with pytest.raises(OrbitforgeError, match="lacks labels"):
        shipping.ship()


def test_what_git_holds_is_small_enough():
    listed = subprocess.run(
        "git rev-list --objects --all -- dvc-sample | cut -d' ' -f1 | git cat-file --batch-check='%(objectsize)'",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode or not listed.stdout:
        pytest.skip("not in a git repository")
    assert sum(int(line) for line in listed.stdout.splitlines()) < shipping.LARGEST
