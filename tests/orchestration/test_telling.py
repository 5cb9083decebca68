"""Many events in one transaction: what Dagster's own database holds then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from orchestration import telling
from orchestration.telling import tell

KEY = dg.AssetKey("thing")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def events(*shards: str) -> list[dg.AssetObservation]:
    return [dg.AssetObservation(KEY, partition=shard, tags={"dagster/data_version": f"v{shard}"}) for shard in shards]


def held(instance: dg.DagsterInstance) -> dict[str, str]:
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        KEY, dg.DagsterEventType.ASSET_OBSERVATION, ["dagster/data_version"]
    )
    return {shard: found["dagster/data_version"] for shard, found in tags.items()}


def test_all_events_arrive_in_order_as_one_by_one(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "TOGETHER", 3)
    shards = [f"{number:03}" for number in range(8)]
    assert tell(instance, iter(events(*shards))) == 8
    instance.report_runless_asset_event(events("008")[0])
    assert held(instance) == {shard: f"v{shard}" for shard in [*shards, "008"]}
    records = instance.fetch_observations(KEY, limit=20, ascending=True).records
    assert [record.partition_key for record in records] == [*shards, "008"]
    assert tell(instance, []) == 0


def test_a_batch_that_breaks_is_not_there_and_the_next_one_is(instance: dg.DagsterInstance):
    with pytest.raises(dg.DagsterInvariantViolationError):
        tell(instance, [*events("000"), "no event"])
    assert held(instance) == {}
    assert tell(instance, events("000", "001")) == 2
    assert held(instance) == {"000": "v000", "001": "v001"}


def test_what_a_run_is_to_make_is_planned_in_few_transactions(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(telling, "TOGETHER", 4)
    shards = [f"{number:03}" for number in range(20)]

    @dg.asset(
        partitions_def=dg.StaticPartitionsDefinition(shards),
        backfill_policy=dg.BackfillPolicy.single_run(),
        name="thing",
    )
    def thing() -> None: ...

    opened: list[str] = []
    connect = SqliteEventLogStorage._connect

    def counted(storage: Any, shard: str) -> Any:
        opened.append(shard)
        return connect(storage, shard)

    span = {"dagster/asset_partition_range_start": "000", "dagster/asset_partition_range_end": "019"}
    job = dg.Definitions([thing]).get_implicit_global_asset_job_def()
    with monkeypatch.context() as counting:
        counting.setattr(SqliteEventLogStorage, "_connect", counted)
        with telling.planned_together(instance):
            run = instance.create_run_for_job(job, tags=span)
    planned = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    assert sorted(str(record.partition_key) for record in planned.records) == shards
    assert len(opened) < 2 * len(shards) / 2  # one by one, each takes two
    assert "create_run_for_job" not in vars(instance)


def test_a_database_that_is_not_sqlites_own_takes_them_one_by_one():
    with dg.DagsterInstance.ephemeral() as instance:
        assert tell(instance, events("000", "001")) == 2
        assert held(instance) == {"000": "v000", "001": "v001"}
