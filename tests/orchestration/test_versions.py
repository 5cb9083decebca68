from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage import code
from orchestration.lineage.code import code_modules, code_version, significant
from orchestration.presets.schema import Preset
from orchestration.versions import (
    asset_seed,
    config_hash,
    data_version,
    environment,
    git_state,
    rows_version,
    step_version,
    tree_version,
)
from tests.orchestration.world import VIEWS, World

PLAIN = '''
import os
FIELD = 1
class Thing:
    name: str = "a # b"
def run(x):
    text = """one

    two   """
    return f"{x} # {text}"
'''

COMMENTED = '''
"""Module docstring
over two lines."""
# a comment

import os  # why

FIELD = 1
"""What the field is."""


class Thing:
    """A thing."""

    name: str = "a # b"
    """Its náme."""  # non-ASCII before and after


def run(x):
    # said

    """Runs."""
    text = """one

    two   """

    return f"{x} # {text}"  # done
'''


def test_comments_docstrings_and_blank_lines_do_not_count():
    assert significant(COMMENTED).split("\n") == PLAIN.strip("\n").split("\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FIELD = 1", "FIELD = 2"),
        ('"a # b"', '"a # c"'),
        ('"""one\n\n', '"""one\n'),  # a blank line inside a string is part of it
        ("two   ", "two "),
        ('{text}"', '{text} "'),
    ],
)
def test_what_can_change_a_result_counts(before: str, after: str):
    assert before in PLAIN
    assert significant(PLAIN.replace(before, after)) != significant(PLAIN)


def test_a_string_beside_a_bare_string_is_kept():
    assert significant('"é bare"; x = "kept"\n') != significant('"é bare"; x = "changed"\n')
    assert significant('class E(Exception): """Said."""\n') == "class E(Exception):"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    code._homes.cache_clear()
    files = {
        "pack/__init__.py": "",
        "pack/top.py": "import json\n\n\ndef f():\n    from pack.deep import leaf\n    return leaf\n",
        "pack/deep/__init__.py": "",
        "pack/deep/leaf.py": "from . import twig\nfrom ..side import name\nimport orchestration.paths\n",
        "pack/deep/twig.py": "import stages.seeds\n",
        "pack/side.py": "name = 1\n",
        "pack/other.py": "import nowhere_to_be_found\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "pack"


def test_the_closure_follows_first_party_imports_also_in_functions(package: Path):
    before = set(sys.modules)
    found = code_modules(["pack.top"])
    assert list(found) == ["pack.deep.leaf", "pack.deep.twig", "pack.side", "pack.top", "stages.seeds"]
    assert set(sys.modules) == before  # read, not imported
    assert list(code_modules(["orchestration.paths"])) == ["orchestration.paths"]  # counts only where it is named


def test_the_version_moves_with_any_module_of_the_closure_and_no_other(package: Path):
    version = code_version(["pack.top"])
    (package / "other.py").write_text("x = 2\n")
    (package / "side.py").write_text('"""Doc."""\nname = 1  # said\n')
    assert code_version(["pack.top"]) == version
    (package / "side.py").write_text("name = 22\n")
    assert code_version(["pack.top"]) != version


def settle(folder: Path) -> None:
    """As if nothing had changed for a minute: what was found is then kept."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (when := path.stat().st_mtime - 60, when))


def test_what_was_found_is_found_again_while_nothing_changed(package: Path, monkeypatch: pytest.MonkeyPatch):
    settle(package)
    before = code_modules(["pack.top"])
    monkeypatch.setattr(code, "_closure", lambda *_: pytest.fail("the files were read again"))
    assert code_modules(["pack.top"]) == before


@pytest.mark.parametrize(
    ("file", "text", "moved"),
    [
        ("side.py", "name = 22\n", "pack.side"),
        ("side/__init__.py", "name = 3\n", "pack.side"),  # a package comes before a module
        ("side/name.py", "x = 1\n", "pack.side.name"),  # a name inside a module becomes a module, beside the package
        ("deep/leaf/__init__.py", "", "pack.deep.leaf"),
        ("deep/__init__.py", "y = 1\n", "pack.deep"),
    ],
)
def test_a_file_that_comes_or_changes_is_seen(package: Path, file: str, text: str, moved: str):
    (package / "side").mkdir()  # a folder alone is no package
    settle(package)
    before = code_modules(["pack.top"])
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(text)
    after = code_modules(["pack.top"])
    code._closures.clear()
    assert after == code_modules(["pack.top"])
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} >= {moved}


def test_a_file_that_went_is_missed(package: Path):
    settle(package)
    before = code_modules(["pack.top"])
    (package / "deep" / "twig.py").unlink()
    assert before.keys() - code_modules(["pack.top"]).keys() == {"pack.deep.twig", "stages.seeds"}


def test_modules_that_cannot_be_read_are_named(package: Path):
    with pytest.raises(OrbitforgeError, match=r"pack\.gone"):
        code_modules(["pack.gone"])
    (package / "side.py").write_text("def\n")
    with pytest.raises(OrbitforgeError, match=r"side\.py does not parse"):
        code_modules(["pack.top"])


def test_code_edited_while_it_runs_is_noticed(package: Path):
    code_modules(["pack.top"])
    __import__("pack.side")
    assert code.edited_while_running(["pack.top"]) == []
    (package / "side.py").write_text("name = 'edited'\n")
    (package / "deep" / "twig.py").write_text("x = 1\n")  # not imported yet: nothing old runs
    assert code.edited_while_running(["pack.top"]) == ["pack.side"]
    del sys.modules["pack.side"], sys.modules["pack"]


def test_config_counts_by_section():
    preset = Preset.model_validate({"name": "a", "rendering": {"size": 32}})
    other = Preset.model_validate({"name": "b", "rendering": {"size": 32}, "source": {"object_shards": 2}})
    assert config_hash(preset, ["rendering"]) == config_hash(other, ["rendering"])
    assert config_hash(preset, ["source"]) != config_hash(other, ["source"])
    seeded = Preset.model_validate({"name": "a", "seed": 1, "rendering": {"size": 32}})
    assert config_hash(preset, ["rendering"]) != config_hash(seeded, ["rendering"])


def test_the_version_of_a_step_holds_code_and_config(world: World):
    before = step_version(VIEWS, world.pipeline.preset)
    world.configure(rendering={"views": 9})
    after = step_version(VIEWS, world.pipeline.preset)
    assert before.split("-")[0] == after.split("-")[0]
    assert before.split("-")[1] != after.split("-")[1]


def test_data_versions_are_those_of_dvc(world: World, monkeypatch: pytest.MonkeyPatch):
    from dvc.repo import Repo

    monkeypatch.chdir(world.root)
    for name in ("toy/a/000/x.tar", "toy/a/000/b/y z.json", "toy/a/001/é.tar", "toy/a-b", "toy/a/Z", "other"):
        path = world.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with Repo(str(world.root)) as repo:
        repo.add("data")  # pyright: ignore[reportArgumentType]
        for name in ("toy", "toy/a", "toy/a/000", "toy/a/000/b", "toy/a/001/é.tar", "toy/a-b"):
            path = str(world.data / name)
            out = repo.find_outs_by_path(path, strict=False)[0]
            tree: Any = out.get_obj(filter_info=path)
            assert data_version(world.data / name) == tree.hash_info.value
    with pytest.raises(OrbitforgeError, match="nothing"):
        data_version(world.data / "nothing")


def test_a_tree_has_one_version_whatever_the_order():
    assert tree_version({"b": "1", "a": "2"}) == tree_version({"a": "2", "b": "1"})
    assert tree_version({"a": "2"}) != tree_version({"a": "3"})


def test_rows_have_one_version_whatever_their_order():
    rows = pl.DataFrame({"id": ["a", "b"], "shard": ["0", "0"], "faces": [1, 2]})
    assert rows_version(rows) == rows_version(rows.reverse().select("faces", "shard", "id"))
    assert rows_version(rows) != rows_version(rows.with_columns(faces=pl.Series([1, 3])))


def test_seeds_differ_by_asset_and_root():
    assert len({asset_seed(root, asset) for root in (0, 1) for asset in ("a", "b")}) == 4
    assert 0 <= asset_seed(0, "a") < 2**63


def test_the_environment_is_told_without_importing_it():
    script = (
        "import sys; from orchestration.versions import environment as e; f = e(); "
        "assert f['torch'] and f['python']; assert not {'torch', 'dvc', 'mlflow', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert environment()["polars"] == pl.__version__


def test_git_state_ignores_the_data_pointer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    assert git_state().commit is None

    def git(*arguments: str) -> None:
        user = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *user, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("data.dvc", "code.py"):
        (tmp_path / name).write_text("1")
    git("add", "-A")
    git("commit", "-m", "one")
    (tmp_path / "data.dvc").write_text("2")
    (tmp_path / "untracked").write_text("2")
    clean = git_state()
    assert clean.commit is not None
    assert clean.diff is None
    (tmp_path / "code.py").write_text("2")
    assert git_state().commit == clean.commit
    assert git_state().diff is not None
