"""After a refactoring: what proves new code, and what it then stands for."""

from __future__ import annotations

import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.accept import accept
from orchestration.lineage.accepted import Accepted
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import ACCEPTED, Ledger, Row
from orchestration.lineage.people import given_reason, named_person
from orchestration.steps import Step
from orchestration.versions import code_version
from tests.orchestration.world import MODEL, World, make_of

CHAIN = ("views", "manifest", "model", "clips")


def accepted(world: World, asset: str) -> list[Row]:
    step = world.pipeline.find(asset)
    assert isinstance(step, Step)
    rows = accept(
        Current(world.pipeline), step, reason="renamed a variable", by="Ada", report=lambda event: None, makes=make_of
    )
    return list(rows)


@pytest.fixture
def refactored(world: World) -> World:
    """The chain as it was made, and a stage that was rewritten without changing what it gives."""
    world.make(*CHAIN)
    world.edit(
        "toy.stage",
        "return line(name, mesh.decode(), views)",
        "text = mesh.decode()\n    return line(name, text, views)",
    )
    assert world.states()["views"] == "stale"
    world.calls()
    return world


def test_equal_bytes_of_one_shard_make_all_fresh(refactored: World):
    (row,) = accepted(refactored, "views")
    assert refactored.calls() == ["views 001"]  # the smallest
    assert (row.kind, row.service, row.by, row.reference) == (ACCEPTED, "bytes", "Ada", "renamed a variable")
    assert set(refactored.states().values()) == {"fresh"}
    assert refactored.make(*CHAIN) == []
    assert refactored.calls() == []


def test_what_is_made_later_is_as_good_in_both_directions(refactored: World):
    old = Current(refactored.pipeline).row("views", "000")
    assert old is not None
    accepted(refactored, "views")
    refactored.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "002"})
    refactored.make("views")
    assert refactored.calls()[-1] == "views 002"
    new = Current(refactored.pipeline).row("views", "002")
    assert new is not None
    assert new.code != old.code
    known = Accepted()
    assert known.stands_for("views", new.code, new.config_hash) == (old.code,)
    assert known.stands_for("views", old.code, old.config_hash) == (new.code,)
    assert known.first("views", new.code, new.config_hash) == old.code
    assert known.stands_for("views", new.code, "another config") == ()
    assert known.stands_for("manifest", new.code, new.config_hash) == ()


def test_a_second_refactoring_joins_the_first(refactored: World):
    accepted(refactored, "views")
    refactored.edit("toy.helper", "str(part) for part in parts", "str(each) for each in parts")
    assert refactored.states()["views"] == "stale"
    accepted(refactored, "views")
    assert refactored.states()["views"] == "fresh"
    config = Current(refactored.pipeline).wanted(refactored.pipeline.steps[0], "000").config_hash
    assert len(Accepted().stands_for("views", code_version(("toy.stage",)), config)) == 2


def test_other_bytes_are_refused_and_nothing_is_recorded(world: World):
    world.make(*CHAIN)
    world.edit("toy.stage", "name, mesh.decode()", "mesh.decode(), name")
    with pytest.raises(OrbitforgeError, match=r"views\[001\] comes out different: 1 of 1 files, first cow\.txt \(was "):
        accepted(world, "views")
    assert Ledger().read().filter(kind=ACCEPTED).is_empty()
    assert world.states()["views"] == "stale"
    assert (world.data / "toy/views/001/cow.txt").read_text() == "cow mesh of cow 16"


def test_only_code_can_be_accepted(world: World):
    world.make(*CHAIN)
    with pytest.raises(OrbitforgeError, match="nothing of views is stale because of its code alone"):
        accepted(world, "views")
    world.configure(rendering={"views": 9})
    world.edit("toy.stage", "views: int", "views: object")
    with pytest.raises(OrbitforgeError, match="nothing of views is stale because of its code alone"):
        accepted(world, "views")


def test_a_model_is_taken_on_a_persons_word(world: World):
    model = world.pipeline.steps[2]
    world.make(*CHAIN)
    steps = tuple(MODEL if step is model else step for step in world.pipeline.steps)
    world.pipeline = type(world.pipeline)(world.pipeline.preset, steps)
    world.edit("toy.helper", "str(part) for part in parts", "str(each) for each in parts")
    world.calls()
    accepted(world, "views")
    accepted(world, "manifest")
    (row,) = accepted(world, "model")
    assert world.calls() == ["views 001", "manifest None"]
    assert row.service == "person"
    accepted(world, "clips")
    assert set(world.states().values()) == {"fresh"}


def test_decisions_need_a_name_and_a_reason(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    assert named_person(" Ada ") == "Ada"
    with pytest.raises(OrbitforgeError, match="nobody is named: give --by NAME"):
        named_person(None)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(world.root / "gitconfig"))
    (world.root / "gitconfig").write_text("[user]\n    name = Ada\n    email = ada@example.org\n")
    assert named_person(None) == "Ada <ada@example.org>"
    with pytest.raises(OrbitforgeError, match="--reason is empty"):
        given_reason("  ")
