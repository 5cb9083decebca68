from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from orchestration.cli.status import status_text
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import MADE, File, Input, Ledger, Row
from orchestration.lineage.staleness import Rerun, status
from orchestration.steps import Source, Step
from orchestration.versions import code_version, config_hash, config_of
from orchestration.workspace import Scratch, remove
from tests.orchestration.world import World

CHAIN = ("views", "manifest", "model", "clips")


@pytest.fixture
def made(world: World) -> World:
    """The whole chain, fresh."""
    world.make(*CHAIN)
    return world


def why(world: World, asset: str) -> list[str]:
    return world.status()[asset].why


def test_nothing_was_made(world: World):
    assert set(world.states().values()) == {"missing"}
    assert world.status()["views"].as_json() == {
        "asset": "views",
        "status": "missing",
        "data_version": None,
        "why": ["was never made (2 of 2 shards)"],
        "shards": {"total": 2, "fresh": 0, "stale": 0, "missing": 2, "failed": 0},
        "progress": None,
    }
    assert why(world, "manifest") == ["was never made", "upstream views is missing in 2 shards"]


def test_fresh_needs_no_reason(made: World):
    for state in made.status().values():
        assert (state.status, state.why) == ("fresh", [])
        assert state.version is not None
        assert state.version.endswith(".dir")


def test_config_goes_down_the_chain(made: World):
    made.configure(rendering={"views": 9})
    assert made.states() == dict.fromkeys(CHAIN, "stale")
    assert why(made, "views") == ["config key rendering.views changed from 16 to 9 (2 of 2 shards)"]
    assert why(made, "manifest") == ["upstream views is stale in 2 shards"]
    assert why(made, "model") == ["upstream manifest is stale"]
    assert why(made, "clips") == ["upstream model is stale (2 of 2 shards)"]
    made.configure(rendering={"size": 64})
    assert "config key rendering.size changed from 512 to 64" in why(made, "model")
    made.configure(seed=3)
    assert "config key seed changed from 0 to 3 (2 of 2 shards)" in why(made, "clips")


def test_code_is_named_by_module(made: World):
    made.edit("toy.stage", "name, mesh.decode()", "mesh.decode(), name")
    assert why(made, "views") == ["code of toy.stage changed (2 of 2 shards)"]
    assert why(made, "manifest") == ["upstream views is stale in 2 shards"]


def test_one_shard_of_the_source(made: World):
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    views = made.status()["views"]
    assert [shard.status for shard in views.shards] == ["fresh", "stale"]
    assert views.status == "stale"
    assert views.shards[1].why[0].startswith("input source_objects changed from ")
    assert why(made, "manifest") == ["upstream views is stale in 1 shard"]
    made.make("views")
    (reason,) = why(made, "manifest")
    assert reason == "input views changed in shard 001"
    made.make("manifest")
    (reason,) = why(made, "model")
    assert reason.startswith("input manifest changed from ")


def test_new_shards_are_missing_until_they_are_made(made: World):
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    assert made.status()["views"].as_json()["shards"] == {"total": 3, "fresh": 2, "stale": 0, "missing": 1, "failed": 0}
    assert made.states()["views"] == "stale"
    made.make("views")
    assert why(made, "manifest") == ["input views gained shard 002"]
    made.objects({"ape": "000", "bee": "000"})
    assert why(made, "manifest") == ["input views lost shard 001"]


def test_the_same_bytes_leave_what_is_below_fresh(made: World):
    made.edit("toy.stage", "views: int", "views: object")
    made.make("views")
    assert set(made.states().values()) == {"fresh"}


def test_base_weights_do_not_pass_their_staleness_on(world: World):
    base = Step("base", ("source_objects",), ("rendering",), ("toy.helper",), "base", "table", job="base")
    clips = replace(world.pipeline.steps[3], reads=("base", "prompts"))
    world.pipeline = replace(world.pipeline, steps=(base, clips))
    assert world.status()["clips"].why == ["was never made (2 of 2 shards)", "upstream base is missing (2 of 2 shards)"]
    Ledger().append(weights := row_of(world, base, None, ()))
    world.configure(name="other")  # another preset stands on the same weights
    prompts = world.pipeline.observe(Source("prompts", table="prompts"))
    for shard in ("000", "001"):
        inputs = (Input("base", None, weights.version, weights.id), Input("prompts", shard, prompts[shard], ""))
        key = Current(world.pipeline).wanted(clips, shard).key
        Ledger().append(row_of(world, clips, shard, inputs, key))
    assert world.states() == {"base": "stale", "clips": "fresh"}


def row_of(world: World, step: Step, shard: str | None, inputs: tuple[Input, ...], key: str = "") -> Row:
    """A row as if the step had been made."""
    preset = world.pipeline.preset
    folder = step.folder(preset.name, shard)
    (world.data / folder).mkdir(parents=True, exist_ok=True)
    return Row(
        MADE,
        preset.name,
        step.name,
        shard,
        folder,
        version=f"version of {folder}",
        key=key,
        files=(File("x", "0" * 32, 1),),
        inputs=inputs,
        code=code_version(step.code),
        config=config_of(preset, step.config),
        config_hash=config_hash(preset, step.config),
        ended=f"2030-01-01T00:00:00.{shard or 0}",
    )


def test_an_artifact_that_is_gone_is_missing(made: World):
    remove(made.data / "toy" / "views" / "001")
    assert [shard.status for shard in made.status()["views"].shards] == ["fresh", "missing"]
    assert "data/toy/views/001 is gone" in why(made, "views")[0]


def test_what_a_rerun_takes_is_estimated_from_before(made: World):
    assert made.status()["views"].rerun == Rerun(0, 0, 0)
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    views = made.status()["views"]
    rows = [Current(made.pipeline).row("views", shard) for shard in ("000", "001")]
    seconds, size = zip(*((row.seconds, row.bytes) for row in rows if row), strict=True)
    assert views.rerun == Rerun(1, pytest.approx(fmean(seconds)), fmean(size))  # as its siblings
    made.configure(rendering={"views": 9})
    views = made.status()["views"]
    assert views.rerun.shards == 3
    assert views.rerun.bytes == sum(size) + fmean(size)


def test_the_report_in_words_says_why_and_how_much(made: World):
    made.configure(rendering={"views": 9})
    text = status_text(status(made.pipeline), "preset toy", why=True).plain
    assert "views     stale    0 of 2 " in text
    assert "    config key rendering.views changed from 16 to 9 (2 of 2 shards)\n" in text
    assert "a run has to make: 6 artifacts, about 0 s, 0.0 MB; less where bytes come out as they were" in text
    assert "why" not in status_text(status(made.pipeline), "", why=False).plain


def test_what_is_being_made_is_running(made: World):
    with Scratch.of("views", "001", "any").held("toy pid 7 on here"):
        state = made.status()["views"]
        assert state.status == "fresh"  # it is fresh: somebody makes another version of it
        made.configure(rendering={"views": 9})
        state = made.status()["views"]
        assert state.status == "running"
        assert state.shards[1].why == ["being made by pid 7 on here"]
        assert state.as_json()["shards"]["stale"] == 2
    with Scratch.of("views", "001", "any").held("nano pid 7 on here"):
        assert made.status()["views"].status == "stale"


def test_a_source_that_is_missing_is_named(world: World):
    labels = Step("labels", ("human_labels",), (), ("toy.helper",), "toy", "table")
    world.pipeline = replace(world.pipeline, steps=(labels,))
    assert world.status()["labels"].why == ["was never made", "source human_labels is missing"]
    (world.data / "human_labels").mkdir()
    (world.data / "human_labels" / "labels.parquet").write_text("1")
    assert world.status()["labels"].why == ["was never made"]


def test_hundreds_of_shards_take_less_than_a_second(world: World):
    shards = [f"{number:03}" for number in range(400)]
    world.objects({f"o{shard}": shard for shard in shards})
    views, manifest = world.pipeline.steps[:2]
    world.pipeline = replace(world.pipeline, steps=(views, manifest))
    versions = world.pipeline.observe(Source("source_objects", table="objects"))
    inputs = {shard: Input("source_objects", shard, versions[shard], "") for shard in shards}
    Ledger().append(*(row_of(world, views, shard, (inputs[shard],)) for shard in shards))
    began = time.process_time()
    states = status(world.pipeline)
    assert time.process_time() - began < 1
    assert states[0].as_json()["shards"]["stale"] == 400
    assert len(states[0].why) == 1


def test_status_needs_no_heavy_library(made: World, tmp_path: Path):
    script = (
        "import sys; import orchestration.lineage.staleness; "
        "assert not {'torch', 'dvc', 'mlflow', 'dagster', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
