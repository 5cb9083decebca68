"""A clock that jumps between runs: what is made last is what counts, and who lives is not taken for dead."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import psutil
import pytest

from orchestration.lineage.ledger import after, utc
from orchestration.lineage.reconcile import reconcile
from orchestration.resources.runs import free_dead_runs, run_tags
from tests.orchestration.test_labelling import clip
from tests.orchestration.world import World
from tests.survival import clocks
from tests.survival.toys import Toys


@pytest.mark.parametrize(("first", "then"), [(None, clocks.a_year_back), (clocks.ten_years_ahead, None)])
def test_what_is_made_under_an_earlier_clock_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: object, then: object
):
    (tmp_path / "project").mkdir()
    toys = Toys(tmp_path / "project", monkeypatch)
    told = toys.call("run", before=first)  # pyright: ignore[reportArgumentType]
    assert told.code == 0, told.text
    before = toys.made()
    toys.world.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    told = toys.call("run", before=then)  # pyright: ignore[reportArgumentType]
    assert told.code == 0, told.text
    assert "made 4 assets" in told.text
    changed = {folder for folder, version in toys.made().items() if version != before[folder]}
    assert changed >= {"toy/views/001", "toy/manifest", "toy/model"}
    text = (toys.world.data / "toy" / "views" / "001" / "doe.txt").read_text()
    assert text == "doe mesh of doe 16"
    for _ in range(2):  # and it stays so
        told = toys.call("run")
        assert "nothing is stale" in told.text, told.text
        assert "put right" not in told.text, told.text


def test_rows_of_a_machine_whose_clock_is_ahead_are_no_obstacle(world: World, monkeypatch: pytest.MonkeyPatch):
    world.make("views")
    monkeypatch.setattr("orchestration.lineage.ledger.utc", lambda: "2001-01-01T00:00:00.000000+00:00")
    world.configure(rendering={"views": 9})
    world.make("views")
    assert world.states()["views"] == "fresh"
    assert reconcile(world.pipeline, world.instance) == []
    world.configure(rendering={"views": 16})  # back to what was: recalled, not made
    world.calls()
    world.make("views")
    assert world.calls() == []
    assert world.states()["views"] == "fresh"
    assert (world.data / "toy" / "views" / "001" / "cow.txt").read_text() == "cow mesh of cow 16"


def test_time_goes_on():
    assert after("") <= after("a day in May") <= utc()
    assert after("2999-01-01T00:00:00.000000+00:00") == "2999-01-01T00:00:00.000001+00:00"
    assert after("2001-01-01T00:00:00.000000+00:00") > "2020"


def test_a_living_run_is_no_dead_one_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch):
    """psutil adds the time of boot, which Linux counts back from the clock."""
    with dg.DagsterInstance.ephemeral() as instance:

        @dg.job
        def nothing() -> None:
            pass

        run = instance.create_run_for_job(nothing, tags=run_tags())
        instance.handle_new_event(_started(run.run_id))
        true = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: true(process) - clocks.YEAR)
        assert free_dead_runs(instance) == []


def _started(run_id: str) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nothing")
    return dg.EventLogEntry(None, "debug", "", run_id, 1.0, None, "nothing", event)


def test_a_verdict_that_is_taken_back_under_an_earlier_clock_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from orchestration.labelling.corpus import Corpus
    from orchestration.labelling.session import Session
    from stages.quality.agreement import last_verdicts
    from stages.quality.judged import GOOD, read_labels
    from stages.shards import write_shard

    folder = tmp_path / "data" / "tiny" / "synthetic_corpus" / "p000"
    folder.mkdir(parents=True)
    write_shard(folder / "clips.tar", [clip(f"p{k:04d}") for k in range(3)])
    labels = tmp_path / "data" / "human_labels"
    labels.mkdir()
    corpus = Corpus(tmp_path / "data" / "tiny", "tiny")
    session = Session(corpus, labels, tmp_path / ".work" / "labelling", "Ada")
    first, second, _ = sorted(corpus.candidates["clip"])
    session.judge(first, GOOD, "")
    session.judge(second, GOOD, "")
    session.save()
    monkeypatch.setattr("orchestration.lineage.ledger.utc", lambda: "2001-01-01T00:00:00.000000+00:00")
    assert session.undo() == second  # the last one, and it is gone
    assert last_verdicts(read_labels(labels))["clip"].to_list() == [first]
    session.judge(second, GOOD, "")
    session.save()
    assert sorted(last_verdicts(read_labels(labels))["clip"]) == [first, second]
