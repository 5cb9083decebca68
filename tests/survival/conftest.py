"""The fixtures of tests of the orchestration."""

from tests.orchestration.conftest import project

__all__ = ["project"]
