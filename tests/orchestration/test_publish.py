from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from orchestration import publish
from orchestration.artifacts import materialise
from orchestration.errors import OrbitforgeError
from orchestration.lineage.ledger import MADE, Ledger, Row
from orchestration.resources import store
from orchestration.versions import step_version
from tests.orchestration.world import World, make_of


def test_dvc_gives_each_artifact_the_version_of_its_row(world: World, monkeypatch: pytest.MonkeyPatch):
    from dvc.repo import Repo

    monkeypatch.chdir(world.root)
    world.make("views", "manifest")
    with Repo(str(world.root)) as repo:
        for record in Ledger().read().to_dicts():
            if record["kind"] == MADE:
                path = str(world.data / record["folder"])
                out = repo.find_outs_by_path(path, strict=False)[0]
                tree: Any = out.get_obj(filter_info=path)
                assert tree.hash_info.value == record["version"]
        assert repo.status() == {}  # the ledger's last rows are in data.dvc, too


def test_dvc_does_not_read_again_what_is_in_the_cache(world: World, monkeypatch: pytest.MonkeyPatch):
    from dvc_data.hashfile import build

    world.make("views")
    read: list[str] = []
    plain = build.hash_file

    def spy(path: str, *arguments: Any, **named: Any) -> Any:
        read.append(Path(path).name)
        return plain(path, *arguments, **named)

    monkeypatch.setattr(build, "hash_file", spy)
    world.configure(rendering={"views": 9})
    world.make("views")
    assert [name for name in read if name.endswith(".txt")] == []
    assert [name for name in read if name.endswith(".parquet")] != []  # the ledger's own files


def test_nothing_of_what_dvc_lists_stays_in_memory(world: World):
    from fsspec.implementations.memory import MemoryFileSystem

    before = set(MemoryFileSystem.store)
    world.make("views")
    world.configure(rendering={"views": 9})
    world.make("views")
    assert set(MemoryFileSystem.store) == before


def test_dvc_does_not_carry_what_another_process_is_writing(world: World):
    shutil.copy(Path(__file__).parents[2] / ".dvcignore", world.root)
    (world.data / "ledger").mkdir(parents=True, exist_ok=True)
    (world.data / "ledger/row-1.123.tmp").touch()
    world.make("views")
    assert [path for path in store.recorded() if path.startswith("ledger/")]
    assert "ledger/row-1.123.tmp" not in store.recorded()


def test_artifacts_are_published_in_batches(world: World, monkeypatch: pytest.MonkeyPatch):
    batches: list[int] = []
    monkeypatch.setattr(store, "publish", lambda placed, also: batches.append(len(placed)))
    now = [0.0]
    monkeypatch.setattr(publish, "time", SimpleNamespace(monotonic=lambda: now[0]))
    rows = [Row(MADE, "toy", "views", f"{n:03}", f"toy/views/{n:03}") for n in range(250)]
    with publish.Publisher() as publisher:
        for row in rows:
            publisher.add(row)
    assert batches == [100, 100, 50]
    batches.clear()
    with publish.Publisher() as publisher:
        now[0] += publish.SECONDS + 1
        publisher.add(rows[0])
        assert batches == [1]
    publisher = publish.Publisher()
    publisher.add(rows[0])
    publisher.__exit__(KeyboardInterrupt, None, None)
    assert batches == [1]  # reconcile() publishes


def test_what_dvc_refuses_stays_in_the_batch(world: World, monkeypatch: pytest.MonkeyPatch):
    batches: list[int] = []

    def held(placed: dict[Any, Any], also: Any) -> None:
        batches.append(len(placed))
        if len(batches) < 3:
            raise OrbitforgeError("DVC is locked")

    monkeypatch.setattr(store, "publish", held)
    monkeypatch.setattr(publish, "AT_MOST", float("inf"))
    rows = [Row(MADE, "toy", "views", f"{n:03}", f"toy/views/{n:03}") for n in range(102)]
    with publish.Publisher() as publisher:
        for row in rows:
            publisher.add(row)
    assert batches == [100, 101, 102]
    batches.clear()
    with pytest.raises(OrbitforgeError, match="locked"), publish.Publisher() as publisher:  # the end has to be recorded
        publisher.add(rows[0])


def test_batches_grow_with_what_they_take(world: World, monkeypatch: pytest.MonkeyPatch):
    """DVC lists the whole asset for each: batches of one size would take a time that is quadratic in the shards."""
    now, there, took = [0.0], [0], [0.0]

    def lists_all(placed: dict[Any, Any], also: Any) -> None:
        there[0] += len(placed)
        now[0] += there[0] * 2e-4
        took[0] += there[0] * 2e-4

    monkeypatch.setattr(store, "publish", lists_all)
    monkeypatch.setattr(publish, "time", SimpleNamespace(monotonic=lambda: now[0]))
    rows = [Row(MADE, "toy", "views", f"{n:05}", f"toy/views/{n:05}") for n in range(20_000)]
    with publish.Publisher() as publisher:
        for row in rows:
            now[0] += 0.02
            publisher.add(row)
        during = took[0]
    assert during <= 1.2 * publish.AT_MOST * now[0]  # each batch is a little larger than the one that it waited for
    assert there[0] == len(rows)


def test_without_dvc_the_way_out_is_named(world: World):
    world.make("views")
    (world.root / ".dvc").rename(world.root / "no-dvc")
    with pytest.raises(OrbitforgeError, match=r"holds no \.dvc folder"):
        store.publish({}, also=[world.data])


def test_remotes_and_pulling(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from dvc.repo import Repo

    monkeypatch.chdir(world.root)
    config = world.root / ".dvc" / "config"
    with pytest.raises(OrbitforgeError, match=r"no DVC remote None \(configured: none\); add it with"):
        store.pull(["data/source"])
    (world.root / "remote").mkdir()
    config.write_text(config.read_text() + "['remote \"sample\"']\n    # said\n    url = ../remote\n")
    assert store.remotes() == {"sample": "../remote"}
    with pytest.raises(OrbitforgeError, match="'elsewhere'"):
        store.pull(["data/source"], remote="elsewhere")
    world.make("views")
    with Repo(str(world.root)) as repo:
        repo.push(targets=["data/source"], remote="sample")
    for folder in (world.root / ".dvc" / "cache", world.data / "source"):
        folder.rename(folder.with_name(f"{folder.name}.away"))
    (world.root / ".dvc" / "cache.away").rename(world.root / "away")
    pointer = (world.root / "data.dvc").read_text().split("md5: ")[1].split()[0]
    whole = store.object_path(pointer)
    whole.parent.mkdir(parents=True)
    whole.write_bytes((world.root / "away" / "files" / "md5" / pointer[:2] / pointer[2:]).read_bytes())
    assert store.pull(["data/source"], remote="sample") > 0
    assert (world.data / "source" / "meshes" / "cow.glb").read_text() == "mesh of cow"
    with pytest.raises(OrbitforgeError, match=r"data/toy/views cannot be fetched from the DVC remote 'sample'"):
        store.pull(["data/toy/views"], remote="sample")


def test_a_part_is_fetched_after_another_was_whole(world: World, monkeypatch: pytest.MonkeyPatch):
    """As after a kill between the two: DVC itself then brings nothing."""
    from dvc.repo import Repo

    monkeypatch.chdir(world.root)
    config = world.root / ".dvc" / "config"
    (world.root / "remote").mkdir()
    config.write_text(config.read_text() + "['remote \"sample\"']\n    url = ../remote\n")
    world.make("views")
    with Repo(str(world.root)) as repo:
        repo.push(remote="sample")
    gone = [md5 for path, md5 in store.recorded().items() if path.startswith("toy/")]
    shutil.rmtree(world.data / "toy")
    for md5 in set(gone):
        store.object_path(md5).unlink()
    assert store.pull(["data/source"], remote="sample") == 0
    assert store.pull(["data/toy"], remote="sample") == len(set(gone))


def test_previews_are_bounded(tmp_path: Path):
    assert publish.preview(tmp_path / "none") == ""
    (tmp_path / "a.md").write_text("# A")
    (tmp_path / "b_c.png").write_bytes(b"png")
    assert publish.preview(tmp_path) == "# A\n\n**b c**\n\n![b_c](data:image/png;base64,cG5n)"
    assert "b_c.png is too large to show" in publish.preview(tmp_path, at_most=20)


def test_dagster_agrees_about_what_is_fresh(world: World):
    """The whole seam inside Dagster: events stream, one for each shard, and its own staleness calls all of it fresh."""
    shards = dg.StaticPartitionsDefinition(["000", "001"])
    views, manifest = world.pipeline.steps[:2]

    def source() -> dg.DataVersionsByPartition:
        found = world.pipeline.observe(world.pipeline.sources[0])
        return dg.DataVersionsByPartition({str(shard): version for shard, version in found.items()})

    objects = dg.observable_source_asset(name="source_objects", partitions_def=shards)(source)

    @dg.asset(
        name="views",
        partitions_def=shards,
        deps=["source_objects"],
        code_version=step_version(views, world.pipeline.preset),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def views_asset(context) -> Iterator[dg.MaterializeResult]:
        yield from materialise(context, views, make_of("views"), pipeline=world.pipeline)  # pyright: ignore

    @dg.asset(name="manifest", deps=["views"], code_version=step_version(manifest, world.pipeline.preset))
    def manifest_asset(context) -> Iterator[dg.MaterializeResult]:
        yield from materialise(context, manifest, make_of("manifest"), pipeline=world.pipeline)  # pyright: ignore

    assets = [objects, views_asset, manifest_asset]
    range_ = {"dagster/asset_partition_range_start": "000", "dagster/asset_partition_range_end": "001"}
    instance = world.instance
    for shard, version in world.pipeline.observe(world.pipeline.sources[0]).items():
        instance.report_runless_asset_event(
            dg.AssetObservation("source_objects", partition=shard, tags={"dagster/data_version": version})
        )

    def states() -> list[StaleStatus]:
        graph = dg.Definitions(assets).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        keys = [("views", "000"), ("views", "001"), ("manifest", None)]
        return [resolver.get_status(dg.AssetKey(asset), partition) for asset, partition in keys]

    assert set(states()) == {StaleStatus.MISSING}
    for events_in_all in (1, 1):  # the second run finds everything fresh and says nothing new
        assert dg.materialize(assets, instance=instance, tags=range_, selection=["views", "manifest"]).success
        for asset, partition in (("views", "000"), ("views", "001"), ("manifest", None)):
            wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
            records = instance.fetch_materializations(wanted, limit=9).records
            assert len(records) == events_in_all
            event = records[0].asset_materialization
            assert event is not None
            assert publish.ROW_TAG in (event.tags or {})
        assert set(states()) == {StaleStatus.FRESH}
    assert world.calls() == ["views 000", "views 001", "manifest None"]
    world.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    version = world.pipeline.observe(world.pipeline.sources[0])["001"]
    instance.report_runless_asset_event(
        dg.AssetObservation("source_objects", partition="001", tags={"dagster/data_version": version})
    )
    assert states() == [StaleStatus.FRESH, StaleStatus.STALE, StaleStatus.FRESH]
