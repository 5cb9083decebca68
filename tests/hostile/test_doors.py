"""Every door against a share of the attacks on it; `python -m tests.hostile` has them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.doors import doors
from tests.hostile.runner import Runner

SHARE = 6
"""One in so many here, the others where there is time; of few, more."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as runner:
        yield runner


def test_the_corpus_is_large() -> None:
    assert sum(len(attacks) for _, attacks in doors().values()) >= 800


@pytest.mark.parametrize("door", list(doors()))
def test_what_strangers_bring_breaks_nothing(runner: Runner, door: str) -> None:
    broken = [result for result in runner.run(door, every=SHARE) if not result.held]
    assert not broken, "\n".join(f"{each.name}: {each.outcome}" for each in broken)
