"""Limits that hold whatever the called function does, and a child that outlives nobody."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stages.rendering.config import RenderingConfig
from stages.sandbox import Limits, Sandbox, SandboxError
from tests.stages.misbehaving import behave, load_or_not

LIMITS = Limits(seconds=1, wall=2, gigabytes=0.5)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(behave, LIMITS) as child:
        yield child


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("sleep", r"too slow: still waiting after 2 s"),
        ("compute", r"too slow: (more than 1 s of CPU time|still waiting after 2 s)"),
        ("allocate", r"too much memory: needs more than 0.5 GB"),
        ("crash", r"crashed: the process was killed by signal 11"),
        ("exit", r"crashed: the process was ended with code 3"),
    ],
)
def test_the_caller_gets_a_reason_and_the_next_call_an_answer(sandbox, how, told):
    assert sandbox("well").startswith("well in ")
    with pytest.raises(SandboxError, match=told):
        sandbox(how)
    assert sandbox("well again").startswith("well again in ")


def test_what_the_function_raises_is_raised_and_the_child_stays(sandbox):
    before = sandbox("well")
    with pytest.raises(KeyError, match="no such thing"):
        sandbox("raise")
    with pytest.raises(RuntimeError, match="UnpicklableError: 1 and 2"):
        sandbox("raise unpicklable")
    assert sandbox("well") == before
    assert before != f"well in {os.getpid()}"


@pytest.mark.parametrize(
    ("house", "how", "ours"),
    [
        (None, "allocate", False),
        (None, "crash", False),
        (None, "be killed", True),
        (1, "allocate", True),
        (1, "crash", True),
        (1, "sleep", False),
        (64, "allocate", False),
    ],
)
def test_only_what_every_machine_would_find_is_said_of_a_file(
    monkeypatch: pytest.MonkeyPatch, house: float | None, how: str, ours: bool
):
    limit = resource.RLIM_INFINITY if house is None else int(house * 1e9)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    error = OSError if ours else SandboxError
    with Sandbox(load_or_not, LIMITS) as child, pytest.raises(error) as raised:
        child(Path(f"{how}.glb"), RenderingConfig.model_validate({}))
    if isinstance(raised.value, OSError):
        assert (raised.value.errno, raised.value.filename) == (errno.ENOMEM, f"{how}.glb")


def test_the_child_ends_with_its_parent_even_while_it_hangs():
    script = (
        "from stages.sandbox import *; from tests.stages.misbehaving import behave\n"
        "with Sandbox(behave) as s: print(s('well').split()[-1], flush=True); s('sleep')"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert child.wait(timeout=10) is None or not child.is_running()
