"""A DVC remote that is gone, read-only, silent, or gives garbage."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestration.errors import OrbitforgeError
from orchestration.lineage.audit.remote import remote_findings
from orchestration.resources import store
from tests.orchestration.world import World
from tests.survival.starved import may_mount, read_only


@pytest.fixture
def shared(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose data lie in the remote `team` and nowhere else but in data/."""
    monkeypatch.chdir(world.root)
    config = world.root / ".dvc" / "config"
    config.write_text(config.read_text() + "['remote \"team\"']\n    url = ../remote\n")
    world.make("views")
    assert push(world).returncode == 0
    return world


def push(world: World) -> subprocess.CompletedProcess[str]:
    """As a person does."""
    command = [sys.executable, "-m", "dvc", "push", "-q", "-r", "team"]
    return subprocess.run(command, cwd=world.root, capture_output=True, text=True, check=False)


def lose(world: World) -> None:
    """The cache, but for the list that data.dvc names, and the data."""
    listed = store.object_path(store.pointer() or "")
    keep = listed.read_bytes()
    shutil.rmtree(world.root / ".dvc" / "cache")
    shutil.rmtree(world.data / "toy")
    listed.parent.mkdir(parents=True)
    listed.write_bytes(keep)


def an_object(world: World) -> tuple[Path, str]:
    """The object of a view in the remote, and its md5."""
    md5 = store.recorded()["toy/views/001/cow.txt"]
    return world.root / "remote" / "files" / "md5" / md5[:2] / md5[2:], md5


def test_garbage_does_not_enter_the_cache(shared: World):
    there, md5 = an_object(shared)
    good = there.read_bytes()
    lose(shared)
    there.chmod(0o644)
    there.write_bytes(b"garbage")
    with pytest.raises(OrbitforgeError, match=r"data/toy/views cannot be fetched from the DVC remote 'team'") as told:
        store.pull(["data/toy/views"], "team")
    assert "\n" not in str(told.value)
    assert not store.object_path(md5).exists()
    assert not (shared.data / "toy" / "views" / "001" / "cow.txt").exists()
    there.unlink()
    there.write_bytes(good)
    store.pull(["data/toy/views"], "team")
    assert (shared.data / "toy" / "views" / "001" / "cow.txt").read_text() == "cow mesh of cow 16"


def test_a_remote_that_is_gone_is_named_and_comes_back(shared: World):
    lose(shared)
    (shared.root / "remote").rename(shared.root / "away")
    with pytest.raises(OrbitforgeError, match=r"cannot be fetched from the DVC remote 'team' \(\.\./remote\)"):
        store.pull(["data/toy/views"], "team")
    (shared.root / "remote").mkdir(exist_ok=True)
    shutil.rmtree(shared.root / "remote")
    (shared.root / "away").rename(shared.root / "remote")
    assert store.pull(["data/toy/views"], "team") > 0
    assert shared.states()["views"] == "fresh"


@pytest.mark.skipif(not may_mount(), reason="needs to mount a folder read-only")
def test_what_was_not_pushed_is_known_and_pushed_later(shared: World):
    with read_only(shared.root / "remote"):
        shared.make("manifest")  # a run needs no remote
        assert shared.states()["manifest"] == "fresh"
        pushed = push(shared)
        assert pushed.returncode != 0
        lacking = {finding.what for finding in remote_findings("team")}
        assert "data/toy/manifest/manifest.json" in lacking
    assert push(shared).returncode == 0
    assert list(remote_findings("team")) == []


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves objects after `server.pause` seconds."""

    def do_GET(self) -> None:
        time.sleep(self.server.pause)  # pyright: ignore[reportAttributeAccessIssue]
        super().do_GET()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def web(shared: World) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(shared.root / "remote")))
    server.pause = 0.0  # pyright: ignore[reportAttributeAccessIssue]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = shared.root / ".dvc" / "config"
    url = f"http://127.0.0.1:{server.server_address[1]}"
    config.write_text(
        config.read_text() + f"['remote \"web\"']\n    url = {url}\n    connect_timeout = 1\n    read_timeout = 1\n"
    )
    yield server
    server.shutdown()


def test_a_server_that_stalls_is_given_up_in_one_line(shared: World, web: Any):
    lose(shared)
    web.pause = 30.0
    began = time.monotonic()
    with pytest.raises(OrbitforgeError, match="cannot be fetched from the DVC remote 'web'") as told:
        store.pull(["data/toy/views"], "web")
    assert time.monotonic() - began < 60
    assert "\n" not in str(told.value)
    web.pause = 0.0
    assert store.pull(["data/toy/views"], "web") > 0
    assert shared.states()["views"] == "fresh"
