"""What a sandbox stopped for want of memory: the file's own doing, or that of a machine with too little."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest

from stages.rendering.loader import sandboxed
from stages.rendering.mesh import MeshError
from stages.sandbox import Limits, Sandbox, SandboxError
from stages.starved import refuse_starved
from tests.stages.misbehaving import behave

TOO_MUCH = "too much memory: needs more than 4 GB"
CRASHED = "crashed: the process was killed by signal 11"
KILLED = "crashed: the process was killed by signal 9"
SLOW = "too slow: still waiting after 300 s"


@pytest.mark.parametrize(
    ("gigabytes", "told", "ours"),
    [
        (None, TOO_MUCH, False),
        (None, CRASHED, False),
        (None, KILLED, True),
        (3, TOO_MUCH, True),
        (3, CRASHED, True),
        (3, SLOW, False),
        (64, TOO_MUCH, False),
    ],
)
def test_only_what_every_machine_would_find_is_said_of_a_file(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float | None, told: str, ours: bool
):
    limit = resource.RLIM_INFINITY if gigabytes is None else int(gigabytes * 1e9)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    if not ours:
        return refuse_starved(SandboxError(told), Limits(), Path("chair.glb"))
    with pytest.raises(OSError, match=r"chair\.glb") as raised:
        refuse_starved(SandboxError(told), Limits(), Path("chair.glb"))
    assert raised.value.errno == errno.ENOMEM


def test_a_reader_that_the_system_kills_quarantines_nothing():
    with Sandbox(behave, Limits(seconds=1, wall=2, gigabytes=0.5)) as child:
        with pytest.raises(OSError, match="be killed") as raised:
            sandboxed(child, "be killed")  # pyright: ignore[reportArgumentType]  # it takes words, not files
        assert raised.value.errno == errno.ENOMEM
        with pytest.raises(MeshError, match="killed by signal 11"):
            sandboxed(child, "crash")  # pyright: ignore[reportArgumentType]
