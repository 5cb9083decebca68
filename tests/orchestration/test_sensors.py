"""What the daemon sees and does: staleness as checks, and runs for new data alone."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from orchestration import pipeline, sensors
from orchestration.assets.freshness import NAME, verdict
from orchestration.definitions import defs
from orchestration.lineage.ledger import ACCEPTED, Ledger, Row
from orchestration.lineage.unread import unread
from orchestration.publish import event
from tests.orchestration.world import World

CHAIN = ("views", "manifest", "model", "clips")


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pipeline, "current", lambda: world.pipeline)
    return world


def asked(world: World) -> dg.RunRequest | dg.SkipReason:
    return sensors.new_data(dg.build_sensor_context(instance=world.instance))  # type: ignore[return-value]


def told(world: World, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    return sensors.staleness(dg.build_sensor_context(instance=world.instance, cursor=cursor))  # type: ignore[return-value]


def test_new_data_starts_a_run_once_and_unchanged_data_none(here: World):
    first = asked(here)
    assert isinstance(first, dg.RunRequest)
    assert asked(here) == first  # the same key: Dagster starts it once
    here.make(*CHAIN)
    assert isinstance(asked(here), dg.SkipReason)
    here.objects({"ape": "000", "bee": "000", "cow": "001"})  # written again, the same rows
    assert isinstance(asked(here), dg.SkipReason)
    here.configure(rendering={"views": 9})
    here.edit("toy.helper", "str(part)", "repr(part)")
    assert isinstance(asked(here), dg.SkipReason)  # a developer's change is no new data
    here.prompts({"red": "000", "green": "001"})
    second = asked(here)
    assert isinstance(second, dg.RunRequest)
    assert second.run_key != first.run_key
    assert {(asset, shard) for asset, _, shard, _ in unread(here.pipeline)} == {("clips", "001")}


def test_new_shards_and_labels_are_new_data(here: World):
    here.make(*CHAIN)
    here.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    assert {(asset, shard) for asset, _, shard, _ in unread(here.pipeline)} == {("views", "002")}


def test_staleness_is_told_when_it_changes(here: World):
    here.make(*CHAIN)
    result = told(here)
    assert isinstance(result, dg.SensorResult)
    assert {e.asset_key.to_user_string(): e.passed for e in result.asset_events} == dict.fromkeys(CHAIN, True)  # type: ignore[union-attr]
    assert isinstance(told(here, result.cursor), dg.SkipReason)
    here.configure(rendering={"views": 9})
    again = told(here, result.cursor)
    assert isinstance(again, dg.SensorResult)
    views = next(e for e in again.asset_events if e.asset_key == dg.AssetKey("views"))
    assert isinstance(views, dg.AssetCheckEvaluation)
    assert (views.check_name, views.passed, views.severity) == (NAME, False, dg.AssetCheckSeverity.WARN)
    assert views.description == "config key rendering.views changed from 16 to 9 (2 of 2 shards)"
    here.instance.report_runless_asset_event(views)  # Dagster takes it


def test_a_verdict_counts_and_estimates(here: World):
    here.make("views")
    here.configure(rendering={"views": 9})
    facts = verdict(here.status()["views"])
    assert facts["metadata"]["fresh"] == 0
    assert facts["metadata"]["artifacts"] == 2
    assert facts["metadata"]["bytes to make"] > 0


def test_only_what_watches_runs_by_itself():
    statuses = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    assert statuses == {
        "source_tables": dg.DefaultSensorStatus.RUNNING,
        "staleness": dg.DefaultSensorStatus.RUNNING,
        "new_data": dg.DefaultSensorStatus.STOPPED,
    }


def test_every_asset_has_the_check():
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == NAME}
    assert checked == {step.name for step in pipeline.current().steps}


def test_accepted_code_goes_by_its_first_name_in_dagster(world: World):
    world.make("views")
    row = Row.of(Ledger().read().filter(kind="made").row(0, named=True))
    Ledger().append(
        Row(ACCEPTED, "toy", "views", code="b" * 32, config_hash=row.config_hash, about=row.id, by="Ada", ended="2031")
    )
    from orchestration.lineage.accepted import Accepted

    first = Accepted().first("views", "b" * 32, row.config_hash)
    assert first == row.code
    tags = event(row, {}, code=first).tags or {}
    assert tags["dagster/code_version"] == f"{row.code[:12]}-{row.config_hash[:12]}"


def test_labels_that_were_judged_are_new_data(here: World, tmp_path: Path):
    from dataclasses import replace

    from orchestration.steps import Step

    step = Step("classifier", ("human_labels",), (), ("toy.helper",), "toy", "table")
    here.pipeline = replace(here.pipeline, steps=(step,))
    labels = here.data / "human_labels"
    labels.mkdir()
    pl.DataFrame({"clip": ["a"]}).write_parquet(labels / "labels.parquet")
    from toy import makes  # pyright: ignore[reportMissingImports]

    makes.classifier = lambda work: (work.output / "x").write_text("x")
    here.make("classifier")
    assert unread(here.pipeline) == []
    pl.DataFrame({"clip": ["b"]}).write_parquet(labels / "labels-001.parquet")
    assert [(asset, source) for asset, source, _, _ in unread(here.pipeline)] == [("classifier", "human_labels")]
