"""A version is made again from what its row names, compared, and leaves no trace."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage import exact, reproduce
from orchestration.lineage.current import Current
from orchestration.lineage.ledger import Ledger, Row
from orchestration.lineage.reproduce import Comparison, refuse, rows_to_make
from orchestration.workspace import object_path
from tests.orchestration.world import World, make_of

CHAIN = ("views", "manifest", "model", "clips")


@pytest.fixture
def made(world: World) -> World:
    world.make(*CHAIN)
    world.calls()
    return world


def again(world: World, asset: str, shard: str | None = None, *, everything: bool = False) -> list[Comparison]:
    current = Current(world.pipeline)
    row = current.row(asset, shard)
    assert row is not None
    rows = rows_to_make(current, row, everything=everything)
    refuse(current, rows)
    return list(reproduce.reproduce(current, rows, makes=make_of))


def snapshot(world: World) -> dict[str, bytes]:
    folders = (world.data, world.root / ".dvc" / "cache")
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_everything_is_made_again_with_equal_bytes_and_nothing_is_left(made: World):
    before = snapshot(made)
    done = again(made, "clips", "001", everything=True)
    assert [comparison.name for comparison in done][-1] == "clips[001]"
    assert {comparison.result for comparison in done} == {"equal"}
    assert sorted(made.calls()) == ["clips 001", "manifest None", "model None", "views 000", "views 001"]
    assert snapshot(made) == before
    assert not list((made.root / ".work").glob("*/*/again-*"))


def test_inputs_are_those_of_then_whatever_lies_there_now(made: World):
    made.objects({"ape": "000", "bee": "000", "cow": "001", "doe": "001"})
    made.configure(rendering={"views": 9})
    old = Current(made.pipeline).row("views", "001")
    made.make("views")
    current = Current(made.pipeline)
    assert old is not None
    (comparison,) = reproduce.reproduce(current, [old], makes=make_of)
    assert comparison.result == "equal"


def test_other_code_or_another_environment_is_refused_by_name(made: World, monkeypatch: pytest.MonkeyPatch):
    made.edit("toy.stage", "views: int", "views: object")
    with pytest.raises(OrbitforgeError, match=r"views\[000\]: code of toy\.stage changed; .*--exact"):
        again(made, "views", "000")
    here = reproduce.environment()
    monkeypatch.setattr(reproduce, "environment", lambda: {**here, "torch": "0.1", "dagster": "0.1"})
    with pytest.raises(OrbitforgeError, match=rf"manifest: torch is 0\.1, was {here['torch']}; ") as told:
        again(made, "manifest")
    assert "dagster" not in str(told.value)  # it cannot change bytes


def test_other_bytes_on_the_same_machine_are_no_reproduction(made: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("toy.makes.manifest", lambda work: (work.output / "manifest.json").write_text("{}"))
    (comparison,) = again(made, "manifest")
    assert (comparison.result, comparison.holds) == ("different", False)
    assert list(comparison.files) == ["manifest.json"]
    assert "on the machine that made them" in comparison.words


@pytest.mark.parametrize(("psnr", "result"), [(20.1, "close"), (25.0, "different")])
def test_on_another_machine_metrics_decide(made: World, monkeypatch: pytest.MonkeyPatch, psnr: float, result: str):
    row = Current(made.pipeline).row("manifest")
    assert row is not None
    far = replace(row, host="far away", metrics={"psnr": 20.0})

    def manifest(work) -> None:
        work.report({"metrics": {"psnr": psnr}})
        (work.output / "manifest.json").write_text("{}")

    monkeypatch.setattr("toy.makes.manifest", manifest)
    (comparison,) = reproduce.reproduce(Current(made.pipeline), [far], makes=make_of)
    assert comparison.result == result
    assert comparison.metrics == {"psnr": (20.0, psnr)}
    assert "as floating point does between machines (made on far away" in comparison.words


def test_what_is_lost_is_named(made: World):
    row = Current(made.pipeline).row("views", "000")
    assert row is not None
    object_path(row.files[0].md5).unlink()
    with pytest.raises(OrbitforgeError, match=r"views\[000\]: 1 of 2 files are not in the DVC cache"):
        again(made, "manifest")


def test_what_was_adopted_is_not_made(made: World):
    row = Current(made.pipeline).row("manifest")
    assert row is not None
    taken = replace(row, service="adopted", reference="from a friend")
    (comparison,) = reproduce.reproduce(Current(made.pipeline), [taken], makes=make_of)
    assert (comparison.result, comparison.words) == ("adopted", "was not made here: from a friend")
    assert made.calls() == []


# --exact


@pytest.fixture
def committed(made: World) -> Row:
    """A row of a commit whose tree has a command line that answers what it was asked."""
    command = made.root / "orchestration" / "cli"
    command.mkdir(parents=True)
    for folder in (command.parent, command):
        (folder / "__init__.py").touch()
    (command / "reproduce.py").touch()
    (command / "main.py").write_text(
        "import json, os, sys\nfrom pathlib import Path\n"
        "root = Path(os.environ['ORBITFORGE_ROOT'])\n"
        "rows = sorted(p.name for p in (root / 'data' / 'ledger').iterdir())\n"
        "told = {'result': 'equal', 'words': f'{sys.argv[1:]} {len(rows)}', 'files': {}, 'metrics': {}, 'seconds': 1}\n"
        "print(json.dumps([told]))\n"
    )
    (made.root / ".gitignore").write_text(".work\ndata\n.dvc\n.dagster\nsrc\n")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=made.root, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=made.root, capture_output=True, text=True).stdout.strip()
    row = Current(made.pipeline).row("manifest")
    assert row is not None
    return replace(row, git_commit=commit)


def test_exact_uses_a_worktree_a_private_root_and_this_python_if_it_fits(made: World, committed: Row):
    Ledger().append(committed)
    (made.root / "orchestration" / "cli" / "main.py").write_text("raise SystemExit('the code of now')")
    (comparison,) = exact.reproduce_exactly(Current(made.pipeline), [committed], print)
    assert comparison.words == f"['reproduce', '{committed.id}', '--json'] 1"
    assert not list((made.root / ".work" / "exact").glob("root-*"))
    (again_,) = exact.reproduce_exactly(Current(made.pipeline), [committed], print)
    assert again_.result == "equal"


def test_exact_refuses_what_no_commit_holds(made: World, committed: Row):
    current = Current(made.pipeline)
    for row, words in (
        (replace(committed, git_commit=None), "made outside git"),
        (replace(committed, git_diff="ab" * 32), "made from a dirty tree at commit"),
    ):
        with pytest.raises(OrbitforgeError, match=words):
            list(exact.reproduce_exactly(current, [row], print))
    subprocess.run(["git", "rm", "-q", "--cached", "orchestration/cli/reproduce.py"], cwd=made.root, check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "y"], cwd=made.root, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=made.root, capture_output=True, text=True).stdout.strip()
    with pytest.raises(OrbitforgeError, match="has no `orbitforge reproduce` yet"):
        list(exact.reproduce_exactly(current, [replace(committed, git_commit=head)], print))


def test_exact_installs_what_was_installed_then(made: World, committed: Row, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def run(command, **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(exact.subprocess, "run", run)
    older = replace(committed, environment={**committed.environment, "torch": "2.0.0"})
    python = exact.interpreter(older, made.root, print)
    assert python.endswith(f"bin{os.sep}python")
    pins = (Path(python).parents[1] / "pins.txt").read_text().split()
    assert "torch==2.0.0" in pins
    assert not [pin for pin in pins if pin.startswith(("dagster", "python", "cpu"))]
    assert str(made.root) in asked[-1]
    asked.clear()
    exact.interpreter(older, made.root, print)
    assert asked == []
    with pytest.raises(OrbitforgeError, match=r"was made by Python 2\.7"):
        exact.interpreter(replace(older, environment={**older.environment, "python": "2.7.1"}), made.root, print)
