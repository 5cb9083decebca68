from tests.orchestration.conftest import world

__all__ = ["world"]
