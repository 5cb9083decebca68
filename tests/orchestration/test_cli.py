"""The command line: what it prints for programs, and one clear line for everything a person can put right."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from orchestration import pipeline
from orchestration.cli.main import app
from orchestration.home import prepare_home
from orchestration.resources.store import recorded

ROOT = Path(__file__).parents[2]
POINTER = """outs:
- md5: {md5}.dir
  nfiles: 70
  hash: md5
  path: data
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A clone as git leaves it: the pointer and the sample remote, no data."""
    shutil.copy(ROOT / "workspace.yaml", tmp_path)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", tmp_path / ".dvc")
    # as it was committed: a run on this machine has changed the one that lies here
    committed = subprocess.run(["git", "show", "HEAD:data.dvc"], cwd=ROOT, capture_output=True)
    (tmp_path / "data.dvc").write_bytes(committed.stdout or (ROOT / "data.dvc").read_bytes())
    (tmp_path / "dvc-sample").symlink_to(ROOT / "dvc-sample")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setenv("ORBITFORGE_ROOT", str(tmp_path))
    monkeypatch.setenv("ORBITFORGE_PRESET", "tiny")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", "")
    return tmp_path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def refused(*arguments: object) -> str:
    """The one line with which a command refuses."""
    result = invoke(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    return the_line(result.exit_code, result.stderr)


def the_line(code: int, stderr: str) -> str:
    assert code == 1, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


def fetching(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: DVC keeps the first standard error that it sees."""
    command = [sys.executable, "-m", "orchestration.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def shipped(project: Path) -> None:
    """The source tables in place, without asking DVC."""
    copy_source(project)
    (project / "data.dvc").unlink()


def copy_source(project: Path) -> None:
    """data/source out of the sample remote, as the pointer names it; a clone that has run nothing has no other."""
    md5 = yaml.safe_load((project / "data.dvc").read_text())["outs"][0]["md5"]
    objects = project / "dvc-sample" / "files" / "md5"
    for entry in json.loads((objects / md5[:2] / md5[2:]).read_text()):
        if entry["relpath"].startswith("source/"):
            target = project / "data" / entry["relpath"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(objects / entry["md5"][:2] / entry["md5"][2:], target)


# fetching


def test_a_clone_fetches_the_sample_data(project):
    done = fetching("run", "--dry-run")
    assert "fetching the sample data" in done.stderr
    assert len(list((project / "data" / "source" / "meshes").glob("*.glb"))) == 68
    assert (project / "data" / "source" / "prompts.parquet").is_file()
    assert not (project / ".work" / "fetching-sample").exists()


def test_an_interrupted_fetch_is_finished(project):
    (project / "data" / "source").mkdir(parents=True)
    (project / ".work").mkdir()
    (project / ".work" / "fetching-sample").touch()
    fetching("run", "--dry-run")
    assert len(list((project / "data" / "source" / "meshes").glob("*.glb"))) == 68


def test_a_pointer_that_came_with_git_is_understood(project):
    """All folders are there, the cache is not: DVC could not add to what it cannot read."""
    copy_source(project)
    for name in ("human_labels", "base_models", "ledger"):
        (project / "data" / name).mkdir()
    fetching("run", "--dry-run")
    assert recorded()


def test_a_missing_remote_is_named(project):
    (project / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    assert "no DVC remote 'sample'" in refused("run")
    assert not (project / "data").exists()


def test_a_remote_without_the_data_is_named(project):
    (project / "data.dvc").write_text(POINTER.format(md5="0" * 32))
    done = fetching("run")
    message = the_line(done.returncode, done.stderr)
    assert "data/source" in message
    assert "'sample'" in message
    assert not (project / "data" / "source").exists()


# what a person can put right


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_says_so_in_one_line(project, monkeypatch, number):
    def stopped() -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)  # the signal comes to Python between two of its instructions

    monkeypatch.setattr(pipeline, "current", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a terminal starts us; not all runners do
    try:
        result = invoke("status")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert result.stderr == "error: stopped; what is finished is kept\n"


def test_an_unknown_preset_is_refused(project):
    assert "choose one of nano, tiny" in refused("run", "--preset", "huge")


def test_an_unknown_key_is_refused(project):
    (project / "mine.yaml").write_text("extends: tiny\nrendering: {sise: 3}")
    message = refused("status", "--preset", str(project / "mine.yaml"))
    assert "mine.yaml" in message
    assert "`rendering.sise`" in message


def test_a_selection_of_nothing_is_refused(project):
    shipped(project)
    assert "--select 'rendered_vews'" in refused("run", "--select", "rendered_vews", "--dry-run")


def test_an_unreachable_mlflow_is_refused_before_any_work(project, monkeypatch):
    shipped(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in refused("run", "--select", "rendered_views")
    assert not (project / "data" / "tiny").exists()
    assert not (project / "data" / "ledger").exists()


def test_a_taken_port_is_refused(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} for Dagster is taken" in refused("ui", "--port", str(port))


@pytest.mark.parametrize(
    ("number", "way_out"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "no permission")],
)
def test_what_a_disk_refuses_is_told(project, monkeypatch, number, way_out):
    shipped(project)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused", str(project / "data"))

    monkeypatch.setattr("orchestration.cli.run.open_instance", refuse)
    message = refused("run")
    assert way_out in message
    assert str(project / "data") in message


def test_an_unknown_bench_names_the_known(project):
    assert "chain: time and peak memory" in refused("bench", "speed")
    assert invoke("bench", "list").exit_code == 0


def test_generate_says_what_it_lacks(project):
    assert "the prompt has 0 characters" in refused("generate", "  ", "-o", "chair.glb")
    assert "the prompt has 10000 characters" in refused("generate", "x" * 10000, "-o", "chair.glb")
    assert "should end in .png" in refused("generate", "a red chair", "-o", "chair.glb", "--picture", "chair.jpg")
    assert "text_to_image" in refused("generate", "a red chair", "-o", "chair.glb")


def test_a_folder_without_the_project_is_refused(project, tmp_path_factory, monkeypatch):
    monkeypatch.delenv("ORBITFORGE_ROOT")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "no workspace.yaml" in refused("status")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("lineage nobody", "nothing is known as 'nobody'; name an asset (base_models, "),
        ("diff nobody noone", "nothing is known as 'nobody'"),
        ("reproduce nobody", "nothing is known as 'nobody'"),
        ("promote nobody --reason x --by Ada", "nothing is known as 'nobody'"),
        ("withdraw nobody --reason x --by Ada", "no object, prompt or label is called 'nobody'"),
        ("withdraw hotDog --reason  --by Ada", "--reason is empty"),
        ("accept nobody --reason x --by Ada", "no asset 'nobody'; choose one of source_objects"),
        ("accept prompts --reason x --by Ada", "prompts is observed, not made: it has no code"),
        ("accept video_model --reason x --by Ada", "nothing of video_model is stale because of its code alone"),
        ("gc --keep everything", "--keep 'everything': say promoted or promoted+ancestors"),
        ("audit --remote nowhere", "no DVC remote 'nowhere' (configured: sample, local)"),
    ],
)
def test_what_is_not_known_is_told_in_one_line(project, arguments, words):
    shipped(project)
    assert words in refused(*arguments.split(" "))
    assert not (project / "data" / "ledger").exists()


# for programs


def test_an_audit_for_programs(project):
    shipped(project)
    result = invoke("audit", "--json")
    told = json.loads(result.stdout)
    assert told.keys() == {"intact", "files", "bytes", "absent", "findings"}
    assert (result.exit_code, told["intact"]) == (1, False)  # data.dvc is missing in this project
    assert told["findings"][0].keys() == {"where", "what", "found", "way_out", "broken"}


def test_a_withdrawal_is_foretold_and_done(project):
    shipped(project)
    foretold = invoke("withdraw", "hotDog", "--reason", "asked for", "--by", "Ada", "--dry-run")
    assert "nothing was changed" in foretold.stdout
    assert not (project / "data" / "ledger").exists()
    done = invoke("withdraw", "hotDog", "--reason", "asked for", "--by", "Ada")
    assert "withdrawn by Ada: asked for" in done.stdout
    assert "hotDog" not in pipeline.current().table("objects")["id"]


def test_status_as_json(project):
    shipped(project)
    result = invoke("status", "--json")
    assert result.exit_code == 0, result.output
    assets = {each["asset"]: each for each in json.loads(result.stdout)["assets"]}
    views = assets["rendered_views"]
    assert json.loads(result.stdout)["rerun"]["rendered_views"] == {"shards": 4, "seconds": None, "bytes": None}
    assert views.keys() == {"asset", "status", "data_version", "why", "shards", "progress"}
    assert views["status"] == "missing"
    assert views["shards"] == {"total": 4, "fresh": 0, "stale": 0, "missing": 4, "failed": 0}


def test_a_dry_run_says_why_and_changes_nothing(project):
    shipped(project)
    before = sorted(path for path in project.rglob("*") if ".git" not in path.parts and ".work" not in path.parts)
    result = invoke("run", "--dry-run", "--select", "rendered_views")
    assert result.exit_code == 0, result.output
    assert "rendered_views" in result.stderr
    after = sorted(path for path in project.rglob("*") if ".git" not in path.parts and ".work" not in path.parts)
    assert after == before


def test_bench_rows_have_their_shape():
    from orchestration.cli.bench.registry import Row

    row = Row("whole chain", "s", 500.0, peer=1000.0, target=600.0).as_json()
    assert row.keys() == {"work", "unit", "ours", "peer", "ratio", "target", "met", "max_diff"}
    assert (row["ratio"], row["met"], row["max_diff"]) == (2.0, True, None)


# the Dagster home


def test_the_home_is_absolute_and_keeps_other_lines(project, monkeypatch):
    (project / ".env").write_text("MINE=1\nDAGSTER_HOME=/somewhere/else\nMLFLOW_DISABLE_TELEMETRY=false\n")
    home = prepare_home()
    lines = (project / ".env").read_text().splitlines()
    assert home == project / ".dagster"
    assert f"DAGSTER_HOME={project / '.dagster'}" in lines
    assert {"MINE=1", "MLFLOW_DISABLE_TELEMETRY=false"} <= set(lines)
    assert len([line for line in lines if line.startswith("DAGSTER_HOME")]) == 1
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    prepare_home()
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    assert (project / ".env").read_text().splitlines() == lines
