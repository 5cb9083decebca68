"""The fixtures of tests of the orchestration."""

from tests.orchestration.conftest import project, world

__all__ = ["project", "world"]
