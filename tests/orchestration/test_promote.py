"""Promotion, and what hangs on it: the policy, collecting what nobody needs, and the loss of the databases."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.whole import audit
from orchestration.lineage.collect import collect, garbage, parse_keep
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import PROMOTED, File, Ledger, Row
from orchestration.lineage.policy import Policy, load_policy, objections
from orchestration.lineage.promote import obstacles, promote
from orchestration.lineage.promoted import promoted
from orchestration.lineage.record import Record, record
from orchestration.lineage.restore import restore
from orchestration.publish import known_tags, links
from orchestration.resources import store
from orchestration.resources.tracking import Tracking
from orchestration.versions import tree_version
from orchestration.workspace import missing, object_path, remove
from tests.orchestration.world import MODEL, World, build

CHAIN = ("views", "manifest", "model", "clips")


@pytest.fixture
def made(world: World) -> World:
    """The chain, committed to git."""
    (world.root / ".gitignore").write_text(".work\ndata\n.dvc\n.dagster\n.mlflow\ncalls\n")
    git(world, "init", "-q")
    commit(world)
    world.make(*CHAIN)
    return world


def git(world: World, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=world.root, check=True)


def commit(world: World) -> None:
    git(world, "add", ".")
    git(world, "commit", "-qm", "x")


def of_model(world: World, **changes: object) -> tuple[Current, Record]:
    current = Current(world.pipeline)
    row = current.row("model")
    assert row is not None
    return current, replace(record(current, row), row=replace(row, **changes))  # type: ignore[arg-type]


def told(world: World, policy: Policy | None = None) -> list[str]:
    current, known = of_model(world)
    return list(obstacles(current, known, policy or Policy(), lambda: audit(world.pipeline, world.instance)))


# what speaks against it


def test_nothing_speaks_against_what_is_as_it_should_be(made: World):
    commit(made)
    assert told(made) == []


def test_a_dirty_tree_is_refused_now_and_then(made: World):
    commit(made)
    (made.root / "src" / "toy" / "makes.py").write_text("# edited")
    assert told(made)[0].startswith("the working tree is dirty")
    git(made, "checkout", "--", ".")
    made.edit("toy.helper", "str(part) for part in parts", "str(each) for each in parts")
    made.make("views")
    git(made, "checkout", "--", ".")
    assert told(made) == []  # made of the views before
    made.edit("toy.helper", "str(part)", "repr(part)")
    made.make(*CHAIN)
    git(made, "checkout", "--", ".")
    assert any("was made from a dirty tree by code that this commit does not hold" in line for line in told(made))


def test_code_that_was_committed_later_is_no_obstacle(made: World):
    made.edit("toy.helper", "str(part) for part in parts", "str(each) for each in parts")
    made.make(*CHAIN)
    commit(made)
    assert told(made) == []


def test_damage_is_an_obstacle(made: World):
    commit(made)
    (made.data / "toy" / "views" / "000" / "stray").write_text("?")
    (line,) = told(made)
    assert line.startswith("the audit found 1 things broken, first data/toy/views/000/stray: has no row")
    row = Current(made.pipeline).row("model")
    assert row is not None
    object_path(row.files[0].md5).unlink()
    assert told(made)[0].startswith("1 of its 1 files are not in the cache, first weights")


def test_licences_and_withdrawn_inputs_are_obstacles(made: World):
    commit(made)
    policy = Policy.model_validate({"licences": {"deny": ["CC0"]}})
    assert told(made, policy) == [
        "3 inputs have a licence that the policy refuses (CC0), first object ape: CC0",
    ]
    from orchestration.lineage.withdraw import entries, withdraw

    withdraw(made.pipeline, "cow", entries(made.pipeline, "cow"), reason="asked for", by="Ada")
    assert "it holds cow, which was withdrawn: asked for" in told(made)


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"psnr": 9.0, "baseline": 10.0}, ["psnr is 9, the policy asks for at least 10 (baseline)"]),
        ({"psnr": 11.0, "baseline": 10.0}, []),
        ({"baseline": 10.0}, ["training logged no metric 'psnr'"]),
        ({"psnr": 11.0}, ["training logged no metric 'baseline', which 'psnr' is to be held against"]),
        ({"psnr": float("nan"), "baseline": 1.0}, ["training logged psnr nan"]),
    ],
)
def test_metrics_are_held_against_the_policy(made: World, metrics: dict[str, float], words: list[str]):
    policy = Policy.model_validate({"metrics": {"model": {"psnr": {"at_least": "baseline"}}}})
    assert list(objections(policy, of_model(made, metrics=metrics)[1])) == words


def test_the_project_may_have_its_own_policy(world: World):
    assert load_policy().licences.deny
    own = world.root / "policy.yaml"
    own.write_text("licences: {deny: [GPL*]}\n")
    assert load_policy().licences.deny == ("GPL*",)
    own.write_text("licences: {forbid: []}\n")
    with pytest.raises(OrbitforgeError, match=r"policy\.yaml: `licences\.forbid`: Extra inputs are not permitted"):
        load_policy()


# collecting


def test_what_is_superseded_is_collected_and_what_is_promoted_is_kept(made: World):
    old = [Current(made.pipeline).row(name) for name in ("manifest", "model")]
    views = Current(made.pipeline).row("views", "000")
    manifest, model = old
    assert manifest is not None
    assert model is not None
    assert views is not None
    remove(made.root / ".git")  # nothing else holds on to the older versions
    made.configure(rendering={"views": 9})
    made.make(*CHAIN)
    Ledger().append(Row(PROMOTED, "toy", "model", about=model.id, service="production", ended="2031", by="Ada"))
    current = Current(made.pipeline)
    with_ancestors = garbage(current, parse_keep("promoted+ancestors"))
    alone = garbage(current, parse_keep("promoted"))
    gone = {path.parent.name + path.name for path in alone.files}
    assert gone >= {file.md5 for file in (*manifest.files, *views.files)}
    assert not gone & {file.md5 for file in model.files}
    assert not {path.parent.name + path.name for path in with_ancestors.files} & {file.md5 for file in manifest.files}
    assert alone.bytes == sum(path.stat().st_size for path in alone.files)
    collect(alone)
    assert missing(manifest.files)
    assert not missing(model.files)
    assert set(made.states().values()) == {"fresh"}
    assert audit(made.pipeline, made.instance).broken == []
    assert garbage(Current(made.pipeline), parse_keep("promoted")).files == {}


def test_what_a_branch_names_is_kept(made: World):
    row = Current(made.pipeline).row("manifest")
    assert row is not None
    git(made, "add", "-f", "data.dvc")
    git(made, "commit", "-qm", "data")
    made.configure(rendering={"views": 9})
    made.make(*CHAIN)
    collect(garbage(Current(made.pipeline), parse_keep("promoted")))
    assert not missing(row.files)


def test_what_to_keep_is_said_in_known_words():
    for text in ("ancestors", "promoted+everything", ""):
        with pytest.raises(OrbitforgeError, match=r"say promoted or promoted\+ancestors"):
            parse_keep(text)


# MLflow: one world for all, its database takes seconds


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        world = build(tmp_path_factory.mktemp("tracked"), patch, model=MODEL)
        world.make("views", "manifest", "model")
        row = Current(world.pipeline).row("model")
        assert row is not None
        curve = world.root / "curve"
        curve.mkdir()
        points = {"step": [0, 1], "name": ["loss", "loss"], "value": [2.0, 1.0]}
        pl.DataFrame(points).write_parquet(curve / "training.parquet")
        from orchestration.workspace import store as into_cache

        files = tuple(sorted((*row.files, *(File(*file) for file in into_cache(curve)))))
        version = tree_version({file.path: file.md5 for file in files})
        whole = replace(row, files=files, version=version, metrics={"psnr at end (dB)": 20.0}, ended=row.ended + "1")
        Ledger().append(whole)
        yield world


def test_a_promotion_sets_the_alias_and_says_who_and_why(tracked: World):
    current = Current(tracked.pipeline)
    row = current.row("model")
    manifest = current.row("manifest")
    assert row is not None
    assert manifest is not None
    given = promote(current, row, alias="production", reason="best so far", by="Ada")
    assert (given.about, given.service, given.by, given.reference) == (row.id, "production", "Ada", "best so far")
    version = Tracking().client().get_model_version_by_alias("toy-model", "production")
    assert version.tags["ledger.row"] in {row.id, next(iter(current.published("mlflow")))}
    assert version.tags["promoted.by"] == "Ada"
    assert promoted(Current(tracked.pipeline)) == {("toy", "model", "production"): row.id}
    with pytest.raises(OrbitforgeError, match="manifest is no model; only models are promoted"):
        promote(current, manifest, alias="production", reason="x", by="Ada")


def test_events_link_to_mlflow_and_back(tracked: World):
    row = Current(tracked.pipeline).row("model")
    assert row is not None
    version = Tracking().client().get_model_version("toy-model", "1")
    assert "http://127.0.0.1:3000/assets/model" in version.description
    assert "http://127.0.0.1:3000/runs/run-1" in version.description
    told_ = replace(row, reference="models:/toy-model/1")
    found = links(tracked.pipeline, told_, row, Tracking())
    assert found["mlflow_version"].value == "http://127.0.0.1:5000/#/models/toy-model/versions/1"
    assert str(found["mlflow_run"].value).endswith(f"/runs/{row.mlflow_run}")
    assert "Made of 3 objects" in str(found["lineage"].value)


@pytest.fixture
def bereft(tracked: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same project after its databases were lost; elsewhere, because MLflow holds on to a database it has open."""
    shutil.copytree(tracked.root, tmp_path / "copy", ignore=shutil.ignore_patterns(".mlflow"))
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path / "copy"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow sets itself
    return replace(tracked, root=tmp_path / "copy")


def test_both_databases_come_back_from_the_ledger(bereft: World):
    tracked = bereft
    row = Current(tracked.pipeline).row("model")
    assert row is not None
    lost = dg.DagsterInstance.ephemeral()
    before = Current(tracked.pipeline).published("mlflow")
    lines = list(restore(tracked.pipeline, lost, Tracking()))
    assert any("toy-model is registered again as models:/toy-model/" in line for line in lines)
    client = Tracking().client()
    version = client.get_model_version_by_alias("toy-model", "production")
    assert version.tags["ledger.row"] in {row.id, *before}
    assert version.tags["original.run"] == row.mlflow_run
    assert version.tags["original.version"].startswith("models:/toy-model/")
    run = client.get_run(str(version.run_id))
    assert run.data.params == {"seed": "0", "rendering.size": "512"}
    assert [metric.value for metric in client.get_metric_history(str(version.run_id), "loss")] == [2.0, 1.0]
    assert run.data.metrics["psnr at end _dB_"] == 20.0
    assert set(known_tags(lost, "views")) == {"000", "001"}
    assert lost.get_dynamic_partitions("toy-objects") == ["000", "001"]
    assert list(restore(tracked.pipeline, lost, Tracking())) == []
    assert [finding for finding in audit(tracked.pipeline, lost).broken if "MLflow" in finding.what] == []


def test_what_the_cache_has_lost_is_told(bereft: World):
    row = Current(bereft.pipeline).row("model")
    assert row is not None
    object_path(row.files[-1].md5).unlink()
    lines = list(restore(bereft.pipeline, bereft.instance, Tracking()))
    assert any("is not in the cache: not registered; `dvc pull` it" in line for line in lines)


def test_an_unknown_version_is_told(tracked: World):
    with pytest.raises(OrbitforgeError, match=r"MLflow does not take models:/toy-model/99 as production"):
        Tracking().promote("toy-model", "99", "production", {"a": "b"})


def test_the_ledger_is_published_with_the_promotion(tracked: World):
    names = {Path(path).name for path in store.recorded() if path.startswith("ledger/")}
    rows = pl.concat([pl.read_parquet(file) for file in Ledger().files() if file.name in names])
    assert len(rows.filter(kind=PROMOTED))
