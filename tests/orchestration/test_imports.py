"""Imports go one way, and what has to start quickly imports nothing heavy."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "mlflow", "dvc", "lightning", "diffusers", "transformers"}


def loaded_by(statement: str) -> set[str]:
    """The heavy libraries that a fresh process holds after `statement`."""
    code = f"{statement}\nimport sys; print(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_imports_go_one_way(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize(
    "statement",
    [
        "import orchestration.definitions",
        "import orchestration.cli.main",
        "import orchestration.cli.run",
        "import models.config, stages.config",
        # every config class is plain data
        "import pathlib, importlib as i\n"
        "for f in pathlib.Path('stages').glob('*/config.py'): i.import_module(f'stages.{f.parent.name}.config')",
    ],
)
def test_imports_nothing_heavy(statement):
    assert loaded_by(statement) == set()


def test_stages_and_models_need_no_orchestration():
    """They run on a GPU machine that has torch, but no Dagster, DVC or MLflow."""
    code = (
        "import sys, importlib, pathlib\n"
        "for name in ('dagster', 'dvc', 'mlflow'): sys.modules[name] = None\n"
        "for top in ('stages', 'models'):\n"
        "    for file in sorted(pathlib.Path(top).rglob('*.py')):\n"
        "        importlib.import_module('.'.join(file.with_suffix('').parts).removesuffix('.__init__'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_help_is_quick(record_property):
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "orchestration.cli.main", "--help"], capture_output=True, cwd=ROOT)
    seconds = time.perf_counter() - began
    record_property("seconds", seconds)
    print(f"orbitforge --help: {seconds:.2f} s")
    assert done.returncode == 0
    # under a second on a quiet machine; a busy one gets more before this fails
    assert seconds < 5


def test_package_files_are_empty():
    for package in ("orchestration", "stages", "models"):
        for file in (ROOT / package).rglob("__init__.py"):
            assert not file.read_text(), file
